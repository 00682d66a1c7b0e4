"""``POST /retrieve``, as trainers of search agents call it in their rollouts: Search-R1, verl, SkyRL and slime, and by
``retrieve_form`` ZeroSearch or rLLM, which send the same keys and read other shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AliasChoices, BaseModel, Field, model_validator
from starlette.responses import JSONResponse

from searchrl.search.corpus import DEPTH, Answer, Found
from searchrl.service import schemas as s
from searchrl.service.routes import Shared
from searchrl.service.wire import Cut, Tolerant

PATH = "/retrieve"
QUERY_BYTES = 4000
"""Of a body, for each query that it may hold."""
TOP_K = 3
"""Documents of an answer where nobody says how many: Search-R1's number."""

router = APIRouter()


class RetrieveRequest(Tolerant):
    """Queries, many as Search-R1 sends them or one as SkyRL does."""

    queries: Annotated[list[Cut], Field(max_length=s.MAX_TEXTS, fail_fast=True)] | None = None
    """A rollout step in which nobody searches sends none."""
    query: Cut | None = None
    topk: Annotated[int, Field(ge=1, le=DEPTH)] | None = Field(
        None, validation_alias=AliasChoices("topk", "top_k", "k")
    )
    """Documents of an answer, best first."""
    return_scores: bool | None = None
    """Whether an item is a document and its score, or the document itself."""

    @model_validator(mode="after")
    def _fits(self) -> RetrieveRequest:
        if (self.queries is None) == (self.query is None):
            raise ValueError("give either queries or query")
        return self


class Document(BaseModel):
    """A document; the first line of its contents is the title, which may be empty."""

    id: str
    contents: str


class Hit(BaseModel):
    """A document and its score."""

    document: Document
    score: float


class RetrieveResponse(BaseModel):
    """One list a query, in order, empty where nothing was found."""

    result: list[list[Hit | Document]]


@router.post(
    PATH,
    response_model=RetrieveResponse,
    responses={status: {"model": s.Problem} for status in (400, 401, 404, 409, 413, 503)},
)
async def retrieve(asked: RetrieveRequest, service: Shared) -> JSONResponse:
    """The best documents of the service's default corpus for each query. What cannot be done at once waits."""
    queries = asked.queries if asked.query is None else [asked.query]
    answers = await service.rollout(queries or [], asked.topk or TOP_K)
    form = "search-r1" if asked.query is None else service.config.retrieve_form
    return JSONResponse(_answer(form, answers, bool(asked.return_scores)))


def _answer(form: str, answers: Sequence[Answer], with_scores: bool) -> Any:
    if form == "zerosearch":
        return [{"text": contents(found)} for found in answers[0].keys]
    if form == "rllm":
        (one,) = answers
        return {"results": [{"id": str(f.key_id), "content": contents(f), "score": f.score} for f in one.keys]}
    return {"result": [[_item(found, with_scores) for found in answer.keys] for answer in answers]}


def _item(found: Found, with_score: bool) -> dict[str, Any]:
    document = {"id": str(found.key_id), "contents": contents(found)}
    return {"document": document, "score": found.score} if with_score else document


def contents(found: Found) -> str:
    """A document as these corpora have it: the title in quotes on a line of its own, then the text."""
    title = " ".join(found.title.split())
    return f'"{title}"\n{found.key}' if title else f"\n{found.key}"
