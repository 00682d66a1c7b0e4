"""``POST /v1/rerank``, ``/v2/rerank`` and ``/rerank``, as the clients of Jina, Cohere and vLLM call them; ``/rerank``
also as those of Hugging Face's text-embeddings-inference (TEI) do, told by its keys.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints, model_validator
from starlette.responses import JSONResponse

from searchrl import __version__
from searchrl.search.worker import tokens_of
from searchrl.service import schemas as s
from searchrl.service.routes import Shared, problems
from searchrl.service.service import Service
from searchrl.service.wire import MAX_TEXT, OPENAI_PROBLEMS, Cut, Tolerant

router = APIRouter()

Query = Annotated[Cut, StringConstraints(min_length=1)]
Text = str | dict[str, Any]


class RerankRequest(Tolerant):
    """A query and documents, as texts or as objects with ``text``."""

    query: Query
    documents: Annotated[list[Text], Field(min_length=1, max_length=s.MAX_TEXTS, fail_fast=True)]
    top_n: Annotated[int, Field(ge=0)] | None = None
    """Results, at most; 0 and null: all."""
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    """Which fields of documents that are objects are read; ``text`` if not given."""

    @model_validator(mode="after")
    def _readable(self) -> RerankRequest:
        self.texts()
        return self

    def texts(self) -> list[str]:
        """What is scored of each document. Raises ValueError on an object without any of it."""
        return [text if isinstance(text, str) else self._text(i, text) for i, text in enumerate(self.documents)]

    def _text(self, place: int, document: dict[str, Any]) -> str:
        fields = self.rank_fields or ["text"]
        found = [document[name] for name in fields if isinstance(document.get(name), str)]
        if not found:
            raise ValueError(f"document {place} has no text in {', '.join(map(repr, fields))}; see rank_fields")
        return "\n".join(found)


class TEIRequest(Tolerant):
    """The same, as TEI has it."""

    query: Query
    texts: Annotated[list[str], Field(min_length=1, max_length=s.MAX_TEXTS, fail_fast=True)]
    raw_scores: bool = False
    """Scores as the reward model gives them."""
    return_text: bool = False


class DocumentText(BaseModel):
    """A document, given back."""

    text: str


class Ranked(BaseModel):
    """A document's place among those given, and how relevant it is, in [0, 1]."""

    index: int
    relevance_score: float
    document: DocumentText | None = None


class Usage(BaseModel):
    """Tokens, about."""

    prompt_tokens: int
    total_tokens: int


class RerankResponse(BaseModel):
    """Documents, most relevant first."""

    id: str
    model: str
    results: list[Ranked]
    usage: Usage
    meta: dict[str, Any]


class TEIRanked(BaseModel):
    """The same, as TEI has it."""

    index: int
    score: float
    text: str | None = None


@router.post("/v1/rerank", response_model=RerankResponse, responses=OPENAI_PROBLEMS)
@router.post("/v2/rerank", response_model=RerankResponse, responses=OPENAI_PROBLEMS)
async def rerank(asked: RerankRequest, service: Shared) -> JSONResponse:
    """Documents by how relevant the reward model finds them."""
    texts = asked.texts()
    scores, shares = await _scores(service, asked.query, texts)
    results = []
    for i in _best_first(scores)[: asked.top_n or None]:
        result: dict[str, Any] = {"index": i, "relevance_score": shares[i]}
        results.append({**result, "document": {"text": texts[i]}} if asked.return_documents else result)
    tokens = sum(tokens_of(asked.query, text) for text in texts)
    return JSONResponse(
        {
            "id": str(uuid.uuid4()),
            "model": service.reward_name,
            "results": results,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "meta": {"api_version": {"version": __version__}, "billed_units": {"search_units": 1}},
        }
    )


@router.post("/rerank", response_model=RerankResponse | list[TEIRanked], responses=problems(400, 413))
async def rerank_or_tei(asked: TEIRequest | RerankRequest, service: Shared) -> JSONResponse:
    """The same; also in TEI's form, where the documents are called ``texts``."""
    if isinstance(asked, RerankRequest):
        return await rerank(asked, service)
    scores, shares = await _scores(service, asked.query, asked.texts)
    shown = scores if asked.raw_scores else shares
    ranked = [{"index": i, "score": shown[i]} for i in _best_first(scores)]
    return JSONResponse(
        [{**one, "text": asked.texts[int(one["index"])]} for one in ranked] if asked.return_text else ranked
    )


async def _scores(service: Service, query: str, texts: Sequence[str]) -> tuple[list[float], list[float]]:
    return await service.probabilities(query, [text[:MAX_TEXT] for text in texts])


def _best_first(scores: Sequence[float]) -> list[int]:
    """Places by falling score; equal ones in the order they came."""
    return sorted(range(len(scores)), key=lambda i: -scores[i])
