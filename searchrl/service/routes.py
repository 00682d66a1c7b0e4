"""What the service answers to, by path."""

from __future__ import annotations

import time
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from searchrl.search.corpus import Answer, Asked, Found
from searchrl.service import schemas as s
from searchrl.service.corpora import NAME
from searchrl.service.service import Budget, Limit, Service


async def _service(request: Request) -> Service:  # not "def", which would run in a thread
    service: Service = request.app.state.service
    return service


PAGE_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}

Shared = Annotated[Service, Depends(_service)]
CorpusName = Annotated[str, Path(pattern=f"^{NAME}$")]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a path answers where it refuses."""
    return {status: {"model": s.Problem} for status in (*statuses, 401, 429, 503)}


router = APIRouter()


@router.post("/search", responses=problems(400, 404, 409, 413))
async def search(asked: s.SearchRequest, service: Shared) -> s.SearchResponse:
    """The best keys for each query: of an indexed corpus, or of those that come along."""
    end = None if asked.budget_ms is None else time.monotonic() + asked.budget_ms / 1000
    budget = Budget(end, asked.max_judged)
    wanted = [Asked(query, asked.k) for query in asked.queries]
    if asked.corpus is None:
        answers = await _scored(asked, budget, service)
    elif asked.strategy == "agent":
        answers = await service.play(asked.corpus, wanted, budget)
    else:
        answers = await service.search(asked.corpus, wanted, asked.retriever)
    results = [
        s.SearchResult.model_validate(
            {
                "query": query,
                "query_id": i,
                "keys": answer.keys,
                "steps": answer.steps or None,
                "stopped": answer.stopped,
            },
            from_attributes=True,
        )
        for i, (query, answer) in enumerate(zip(asked.queries, answers, strict=True))
    ]
    if asked.return_relevance:
        await _add_relevance(results, budget, service)
    for result in results:
        if result.stopped:
            service.metrics.stopped.labels(result.stopped).inc()
    return s.SearchResponse(results=results)


@router.post("/relevance", responses=problems(400, 413))
async def relevance(asked: s.RelevanceRequest, service: Shared) -> s.RelevanceResponse:
    """How relevant every key is for every query."""
    rows = await service.relevance(asked.queries, asked.keys, Budget())
    return s.RelevanceResponse.model_validate({"relevance": rows})


@router.post("/embed", responses=problems(400, 413))
async def embed(asked: s.EmbedRequest, service: Shared) -> s.EmbedResponse:
    """Unit vectors of texts."""
    with service.within_limits(len(asked.texts), "search" if asked.kind == "query" else "index"):
        vectors = await service.models.embed(asked.texts, asked.kind)
    return s.EmbedResponse(embeddings=vectors.tolist())


@router.post("/generate", responses=problems(400, 413))
async def generate(asked: s.GenerateRequest, service: Shared) -> s.GenerateResponse:
    """Text that continues prompts."""
    with service.within_limits(len(asked.prompts), "write"):
        texts = await service.models.generate(**dict(asked))
    return s.GenerateResponse(texts=texts)


@router.get("/corpora", responses=problems())
async def list_corpora(service: Shared) -> s.Corpora:
    """All indexed corpora."""
    facts = [s.CorpusFacts(**collection.facts) for _, collection in sorted(service.store.collections.items())]
    return s.Corpora(corpora=facts, unusable=service.store.unusable)


@router.get("/corpora/{name}", responses=problems(404, 409))
async def get_corpus(name: CorpusName, service: Shared) -> s.CorpusFacts:
    """One of them."""
    return s.CorpusFacts(**service.collection(name).facts)


@router.put(
    "/corpora/{name}",
    responses={201: {"model": s.CorpusFacts}, **problems(408, 413, 507)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/x-ndjson": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_corpus(name: CorpusName, request: Request, response: Response, service: Shared) -> s.CorpusFacts:
    """Index a corpus, or replace one: JSON Lines with "_id", "text" and perhaps "title", as BEIR has them.

    Answered when everything is on the disk. Until then, or if it fails, the corpus is as it was before.
    """
    collection, new = await service.put(name, request.stream())
    response.status_code = 201 if new else 200
    return s.CorpusFacts(**collection.facts)


@router.delete("/corpora/{name}", status_code=204, responses=problems(404))
async def delete_corpus(name: CorpusName, service: Shared) -> None:
    """Forget a corpus."""
    await service.delete(name)


@router.get("/healthz")
async def healthz() -> s.Health:
    """Whether the process answers at all."""
    return s.Health(status="alive")


@router.get("/readyz", responses=problems())
async def readyz(service: Shared) -> s.Health:
    """Whether corpora can be searched."""
    service.check_ready()
    return s.Health(status="ready", agent=service.agent.facts if service.agent else None)


@router.get("/metrics", response_class=Response)
async def metrics(service: Shared) -> Response:
    """Counters, in Prometheus's text format."""
    service.gauge()
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", include_in_schema=False)
@router.get("/page.js", include_in_schema=False)
@router.get("/page.css", include_in_schema=False)
async def page(request: Request) -> Response:
    """A page to search by hand: three files that ask for nothing from outside."""
    name = request.url.path.removeprefix("/") or "page.html"
    content = files(__package__).joinpath(name).read_bytes()
    return Response(content, headers={"Cache-Control": "no-cache"}, media_type=PAGE_TYPES[name.rpartition(".")[2]])


async def _scored(asked: s.SearchRequest, budget: Budget, service: Service) -> list[Answer]:
    """The given keys that were scored, best first; equal ones in the order they came."""
    keys = asked.keys or []
    answers = []
    for row in await service.relevance(asked.queries, keys, budget):
        known = [(score, i) for i, score in enumerate(row) if score is not None]
        best = sorted(known, key=lambda one: (-one[0], one[1]))[: asked.k]
        found = [Found(i, "", keys[i], score) for score, i in best]
        answers.append(Answer(found, stopped=_stopped(len(known), len(keys), budget)))
    return answers


async def _add_relevance(results: list[s.SearchResult], budget: Budget, service: Service) -> None:
    """Fill in what the reward model says of every key, as far as the budget goes."""
    wanted = [(result, key) for result in results for key in result.keys[: budget.left(0)]]
    texts = [(result.query, f"{key.title} {key.key}".strip()) for result, key in wanted]
    for (_, key), score in zip(wanted, await service.pair_relevance(texts, budget), strict=True):
        key.relevance = score
    for result in results:
        known = sum(key.relevance is not None for key in result.keys)
        result.stopped = result.stopped or _stopped(known, len(result.keys), budget)


def _stopped(known: int, of: int, budget: Budget) -> Limit | None:
    """The limit that kept some from being judged."""
    if known == of:
        return None
    return "max_judged" if budget.max_judged is not None and known >= budget.max_judged else "budget_ms"
