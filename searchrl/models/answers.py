"""What model servers answer, one schema an endpoint: anything else is one clear error, whatever it is.

Servers are nobody's friends here: nesting without end, numbers no float holds, half characters, lists where texts
belong. What a schema does not name is ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from searchrl.errors import EngineError

Number = Annotated[float, Field(strict=True, ge=-1e30, le=1e30)]
"""Fits float32; NaN and the infinities do not pass."""
LogProb = Annotated[float, Field(strict=True, ge=-1e30, le=0.01)]
"""In nats; a little above 0 by rounding."""
Whole = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
"""A token's id, or a place in a list."""

A = TypeVar("A")
Several = Annotated[list[A], Field(fail_fast=True)]
"""A list whose first fault is enough."""
Some = Annotated[list[A], Field(fail_fast=True, min_length=1)]


class Answer(BaseModel):
    """The body of an answer with status 200."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


AnswerT = TypeVar("AnswerT", bound=Answer)


class ListedModel(Answer):
    """A model as ``/v1/models`` lists it; whatever else is said there is kept."""

    model_config = ConfigDict(extra="allow")

    id: str
    owned_by: str | None = None
    meta: Any = None

    @property
    def parameters(self) -> int | None:
        """Number of weights, where that is said (llama.cpp does)."""
        size = self.meta.get("n_params") if isinstance(self.meta, dict) else None
        return size if isinstance(size, int) and not isinstance(size, bool) and 0 < size < 1 << 50 else None


class ModelList(Answer):
    """``/v1/models``."""

    data: Several[ListedModel]


class TokenList(Answer):
    """``/tokenize``."""

    tokens: Several[Whole]


class TopToken(Answer):
    """A token that may come next."""

    token: str
    logprob: LogProb


class ChatToken(TopToken):
    """A token that came, and those that might have."""

    top_logprobs: Several[TopToken] = []


class ChatLogprobs(Answer):
    """Of each token that came."""

    content: Several[ChatToken] | None = None


class Message(Answer):
    """What the assistant said."""

    content: str | None = None


class ChatChoice(Answer):
    """One answer to a chat."""

    message: Message
    logprobs: ChatLogprobs | None = None


class ChatCompletion(Answer):
    """``/v1/chat/completions``."""

    choices: Some[ChatChoice]


class EchoedLogprobs(Answer):
    """Of each token of a prompt that was echoed, and of those that came; the first has none."""

    token_logprobs: Several[LogProb | None] | None = None


class EchoedChoice(Answer):
    """A prompt, echoed."""

    logprobs: EchoedLogprobs | None = None


class EchoedCompletion(Answer):
    """``/v1/completions`` with ``echo``."""

    choices: Some[EchoedChoice]


class TopId(Answer):
    """A token that may come next, by its id."""

    id: Whole
    logprob: LogProb


class GeneratedToken(TopId):
    """A token that came, and those that might have."""

    top_logprobs: Several[TopId] = []


class GeneratedLogprobs(Answer):
    """Of each token that came."""

    content: Several[GeneratedToken] | None = None


class GeneratedChoice(Answer):
    """A continuation."""

    logprobs: GeneratedLogprobs | None = None


class GeneratedCompletion(Answer):
    """``/v1/completions`` of llama.cpp, which says ids."""

    choices: Some[GeneratedChoice]


class Embedding(Answer):
    """One text's vector."""

    index: Whole
    embedding: Some[Number]


class EmbeddingList(Answer):
    """``/v1/embeddings``."""

    data: Several[Embedding]


class Reranked(Answer):
    """One document's relevance."""

    index: Whole
    relevance_score: Number


class RerankedList(Answer):
    """``/v1/rerank``."""

    results: Several[Reranked]


def decode(schema: type[AnswerT], content: bytes, url: str) -> AnswerT:
    """The answer as its schema. Raises EngineError, naming the address and the first fault, where it is none."""
    try:
        return schema.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if fault["type"] == "json_invalid":
            problem = "something that is not JSON"
        else:
            place = ".".join(str(part) for part in fault["loc"]) or "as a whole"
            problem = f"something unexpected ({place}: {fault['msg']})"
        begins = content[:80].decode("utf-8", "backslashreplace")
        raise EngineError(f"the model server {url} answers with {problem}: {begins!r}") from None
