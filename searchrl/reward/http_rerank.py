"""A reranker or reward model behind a server: /v1/rerank (vLLM, llama.cpp, TEI's kin), or vLLM's /score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from searchrl.errors import EngineError
from searchrl.models.language_model import FloatArray
from searchrl.models.served_model import ServedModel
from searchrl.models.tokens import scrub

Endpoint = Literal["rerank", "score"]

DOCUMENTS_AT_ONCE = 64
"""In one request."""


class HttpReranker(ServedModel):
    """Implements ``RewardModel`` over HTTP: the server scores (query, document) pairs with a template of its own.

    base_url, model, connection: see ``ServedModel``. endpoint: ``rerank`` (one query and its documents a request) or
    ``score`` (vLLM's). absolute: say so where the model's scores lie in [0, 1] and mean the same for every query;
    servers do not tell.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        endpoint: Endpoint = "rerank",
        absolute: bool = False,
        **connection: Any,
    ) -> None:
        super().__init__(base_url, model, **connection)
        self._endpoint: Endpoint = endpoint
        self.absolute = absolute

    @property
    def fingerprint(self) -> str:
        """Address, name, what the server says about the model, and the endpoint."""
        return f"http-rerank-1 {self.served.fingerprint} {self._endpoint}"

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """The server's scores of the n pairs (queries[i], documents[i]), shape (n,).

        Raises EngineError, whose ``answered`` holds each pair's score that came all the same.
        """
        by_query: dict[str, list[int]] = {}
        for i, (query, _) in enumerate(zip(queries, documents, strict=True)):
            by_query.setdefault(query, []).append(i)
        batches = [
            places[start : start + DOCUMENTS_AT_ONCE]
            for places in by_query.values()
            for start in range(0, len(places), DOCUMENTS_AT_ONCE)
        ]
        if not batches:
            return np.zeros(0, dtype=np.float32)
        _ = self.served  # asked once, not by every thread

        def ask(places: list[int]) -> list[float]:
            return self._ask(scrub(queries[places[0]]), [scrub(documents[i]) for i in places])

        try:
            answers = dict(enumerate(self._client.each(batches, ask)))
        except EngineError as error:
            raise type(error)(str(error), _spread(batches, error.answered)) from error
        scores = _spread(batches, answers)
        return np.array([scores[i] for i in range(len(queries))], dtype=np.float32)

    def _ask(self, query: str, documents: list[str]) -> list[float]:
        if self._endpoint == "rerank":
            path, key = "/v1/rerank", ("results", "relevance_score")
            body: dict[str, Any] = {"query": query, "documents": documents, "top_n": len(documents)}
        else:
            path, key = "/score", ("data", "score")
            body = {"text_1": query, "text_2": documents}
        answer = self._client.post(path, {"model": self.name, **body})
        try:
            found = {int(entry["index"]): float(entry[key[1]]) for entry in answer[key[0]]}
            scores = [found[i] for i in range(len(documents))]
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(f"{self._client.base_url}{path} does not answer with scores: {answer!s:.80}") from error
        if not np.isfinite(scores).all():
            raise EngineError(f"{self._client.base_url}{path} gives no finite score for the query {query[:60]!r}")
        return scores


def _spread(batches: Sequence[Sequence[int]], answers: Any) -> dict[int, float]:
    """Place of a batch -> its scores becomes place of a pair -> its score."""
    return {i: score for b, scores in answers.items() for i, score in zip(batches[b], scores, strict=True)}
