"""First-stage search for whole batches: dense, lexical, or both, as each query asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from searchrl.retrieval.dense import DenseIndex, TextEncoder
from searchrl.retrieval.fusion import minmax
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, Queries, Ranking

RetrieverName = Literal["dense", "hybrid"]
LEXICAL_SHARE: dict[RetrieverName, float] = {"dense": 0.0, "hybrid": 0.5}
"""Share of the lexical leg with which a fresh query starts; reformulation may change it."""

_BLOCK_CELLS = 1 << 25
"""Scores held at once: 128 MB of float32, whatever the corpus."""


class Retriever:
    """Searches a corpus; the lexical share of each query decides how much BM25 joins the cosine.

    Hybrid scores are the min-max scaled cosine and the min-max scaled BM25, each over all documents that may be
    returned, mixed by the query's share. At share 0 the score is the plain cosine, at 1 plain BM25.
    """

    def __init__(
        self, encoder: TextEncoder, dense: DenseIndex, lexical: LexicalIndex, lexical_share: float, depth: int
    ) -> None:
        self.encoder = encoder
        self.dense = dense
        self.lexical = lexical
        self.lexical_share = lexical_share
        self.depth = depth

    def queries(self, texts: Sequence[str], lexical_share: float | None = None) -> Queries:
        """Encode fresh queries; ``lexical_share`` overrides the retriever's own."""
        share = self.lexical_share if lexical_share is None else lexical_share
        vectors = self.encoder.encode(texts, kind="query", show_progress=False, description="encode queries")
        return Queries(
            list(texts), vectors, self.lexical.query_terms(texts), np.full(len(texts), share, dtype=np.float32)
        )

    def search(self, queries: Queries, exclude: NDArray[np.int32] | None = None) -> Ranking:
        """Top ``depth`` documents of each query; ``exclude`` (n,) names a document never to return, -1 for none."""
        n, size = len(queries), len(self.dense)
        documents = np.full((n, self.depth), NO_DOCUMENT, dtype=np.int32)
        scores = np.full((n, self.depth), -np.inf, dtype=np.float32)
        block = max(1, _BLOCK_CELLS // size)
        for start in range(0, n, block):
            rows = slice(start, min(start + block, n))
            allowed = np.ones((rows.stop - start, size), dtype=bool)
            if exclude is not None:
                at = np.flatnonzero(exclude[rows] >= 0)
                allowed[at, exclude[rows][at]] = False
            matrix = np.where(allowed, self._scores(queries, rows, allowed), -np.inf)
            top_documents, top_scores = top_k(matrix, min(self.depth, size))
            documents[rows, : top_documents.shape[1]] = np.where(np.isfinite(top_scores), top_documents, NO_DOCUMENT)
            scores[rows, : top_scores.shape[1]] = top_scores
        return Ranking(documents, scores)

    def _scores(self, queries: Queries, rows: slice, allowed: NDArray[np.bool_]) -> FloatArray:
        # What may not be returned may not set the scale either: a query's own document would dwarf all others.
        share = queries.lexical[rows][:, None]
        cosine = self.dense.scores(queries.vectors[rows])
        if not share.any():
            return cosine
        bm25 = np.where(allowed, self.lexical.scores(queries.terms[rows]), 0.0)
        scaled_bm25 = np.where(bm25.any(axis=1, keepdims=True), minmax(bm25, allowed), 0.0)
        mixed = (1.0 - share) * minmax(cosine, allowed) + share * scaled_bm25
        matched = np.where(bm25 > 0, bm25, -np.inf)  # BM25 alone returns no document that shares no word
        return np.where(share == 0.0, cosine, np.where(share == 1.0, matched, mixed)).astype(np.float32)


def top_k(scores: FloatArray, k: int) -> tuple[NDArray[np.int64], FloatArray]:
    """Best k of each row, best first; ties go to the lower index. Returns (indices, scores), each (n, k)."""
    if k < scores.shape[1]:
        # A partition alone would pick at random among documents tied for the last place.
        last = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
        better, tied = scores > last, scores == last
        places = k - better.sum(axis=1, keepdims=True)
        candidates = np.nonzero(better | (tied & (tied.cumsum(axis=1, dtype=np.int32) <= places)))[1].reshape(-1, k)
    else:
        candidates = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    values = np.take_along_axis(scores, candidates, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(values, order, axis=1)
