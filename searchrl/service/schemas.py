"""Requests and answers as JSON; from these FastAPI makes checks, /openapi.json and /docs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from searchrl.config import RetrieverName
from searchrl.search.corpus import DEPTH
from searchrl.service.corpora import NAME
from searchrl.service.wire import MAX_TEXT

MOST_UNKNOWN = 5
"""Unknown fields that are named one by one."""
MAX_TEXTS = 100_000
"""Items of any list, before max_items counts them."""

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Query = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)]
Queries = Annotated[list[Query], Field(min_length=1, max_length=MAX_TEXTS, fail_fast=True)]
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
Strategy = Literal["single_pass", "agent"]


class Request(BaseModel):
    """What all requests have in common: an unknown field is a mistake, not a wish to be ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        """Many unknown fields are one mistake."""
        if isinstance(value, dict) and len(value) > len(cls.model_fields) + MOST_UNKNOWN:
            raise ValueError(f"{len(value)} fields, of which there are {', '.join(cls.model_fields)}")
        return value


class SearchRequest(Request):
    """Search an indexed corpus, or score the keys that come along."""

    queries: Queries
    corpus: Name | None = None
    """Name of an indexed corpus."""
    keys: Texts | None = None
    """Texts to score, every one for every query, instead of a corpus."""
    k: Annotated[int, Field(ge=1, le=DEPTH)] = 10
    """Keys of an answer, best first."""
    strategy: Strategy = "single_pass"
    """agent: the trained policy searches the corpus, and says what it did."""
    retriever: RetrieverName | None = None
    """What a single pass uses; if not given, what the agent was trained with, or dense."""
    return_relevance: bool = False
    """Add the reward model's relevance to every key."""
    budget_ms: Annotated[int, Field(ge=1, le=3_600_000)] | None = None
    """Milliseconds after which nothing more is judged, and the best ranking so far is the answer."""
    max_judged: Annotated[int, Field(ge=0, le=MAX_TEXTS)] | None = None
    """Documents that are judged for each query, at most; then the best ranking so far is the answer."""

    @model_validator(mode="after")
    def _fits(self) -> SearchRequest:
        if (self.corpus is None) == (self.keys is None):
            raise ValueError("give either a corpus or keys")
        if self.strategy == "agent" and (self.corpus is None or self.retriever is not None):
            raise ValueError("the agent searches a corpus, and chooses the retriever itself")
        if self.keys is not None and self.retriever is not None:
            raise ValueError("a retriever searches a corpus; keys are all scored")
        return self


class Key(BaseModel):
    """One text of an answer."""

    model_config = ConfigDict(from_attributes=True)

    key_id: str | int
    """The document's id in the corpus, or the key's place among those given."""
    key: str
    title: str = ""
    score: float
    """What the order goes by: the ranking's score, or the relevance."""
    relevance: float | None = None


class AgentStep(BaseModel):
    """One action of the agent."""

    action: str
    probabilities: dict[str, float]
    """Of every action that was possible."""
    query: str
    """The query as it stands after the action."""
    lexical_share: float
    """How much BM25 joins the embeddings, 0 to 1."""
    similarity: float
    """Cosine of the query's embedding with the original one's."""
    trust: float | None = None
    """Of a TERMINATE: the reward model's share in the final ranking."""
    keys: list[Key] | None = None
    """What this step found, if it searched."""


class SearchResult(BaseModel):
    """The answer to one query."""

    query: str
    query_id: int
    keys: list[Key]
    steps: list[AgentStep] | None = None
    stopped: Literal["budget_ms", "max_judged"] | None = None
    """The limit that ended the search early; the keys are then the best ranking until that moment."""


class SearchResponse(BaseModel):
    """One result a query, in order."""

    results: list[SearchResult]


class RelevanceRequest(Request):
    """Score every query with every key."""

    queries: Queries
    keys: Texts


class RelevanceResponse(BaseModel):
    """Scores, a row a query, a column a key."""

    relevance: list[list[float]]


class EmbedRequest(Request):
    """Turn texts into vectors."""

    texts: Texts
    kind: Literal["query", "document"] = "document"


class EmbedResponse(BaseModel):
    """Unit vectors, one a text."""

    embeddings: list[list[float]]


class GenerateRequest(Request):
    """Continue prompts."""

    prompts: Queries
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] = 64
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class GenerateResponse(BaseModel):
    """New text, one a prompt."""

    texts: list[str]


class CorpusFacts(BaseModel):
    """An indexed corpus."""

    name: str
    documents: int
    encoder: str


class Corpora(BaseModel):
    """All indexed corpora."""

    corpora: list[CorpusFacts]
    unusable: dict[str, str]
    """Name -> why it cannot be searched."""


class Health(BaseModel):
    """Whether the service lives, or is ready."""

    status: str
    agent: dict[str, str | int] | None = None
    """The agent's checkpoint, if there is one."""


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str
