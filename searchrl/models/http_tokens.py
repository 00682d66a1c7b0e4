"""Text to token ids by the server's own tokenizer: vLLM, SGLang and llama.cpp all answer at /tokenize."""

from __future__ import annotations

from functools import lru_cache

from searchrl.errors import EngineError
from searchrl.models.batching import scrub
from searchrl.models.http_client import HttpClient, MissingEndpoint

REMEMBERED = 1 << 14
"""Texts whose ids are kept: documents meet many queries."""


class HttpTokenizer:
    """The tokenizer of one served model; may be shared by threads."""

    def __init__(self, client: HttpClient, model: str) -> None:
        self._client = client
        self._model = model
        self._remembered = lru_cache(REMEMBERED)(self._ask)

    def ids(self, text: str, *, special: bool) -> list[int]:
        """Ids of a text; ``special``: with what the model wants at a text's start. Raises EngineError where the server
        has no tokenizer to ask.
        """
        return list(self._remembered(text, special))

    def _ask(self, text: str, special: bool) -> tuple[int, ...]:
        text = scrub(text)
        # The servers' names for the same two arguments; each ignores the other's.
        body = {
            "model": self._model,
            "prompt": text,
            "content": text,
            "add_special_tokens": special,
            "add_special": special,
        }
        try:
            answer = self._client.post("/tokenize", body)
            return tuple(int(token) for token in answer["tokens"])
        except MissingEndpoint as error:
            raise EngineError(
                f"{error}; without the server's tokenizer likelihoods cannot be scored and rare answers not weighed: "
                "use vLLM, SGLang or llama.cpp, or --engine transformers"
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(
                f"{self._client.base_url}/tokenize does not answer with tokens: {answer!s:.80}"
            ) from error
