"""First-stage search for whole batches: dense, lexical, or both, as each query asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchrl.config import RetrieverName
from searchrl.retrieval.approximate import ApproximateIndex
from searchrl.retrieval.dense import (
    RESERVE,
    DenseIndex,
    TextEncoder,
    best_of,
    encode_texts,
    pair_products,
    rounding,
    row_products,
)
from searchrl.retrieval.fusion import minmax_rows
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, IntArray, Queries, Ranking, top_k

LEXICAL_SHARE: dict[RetrieverName, float] = {"dense": 0.0, "hybrid": 0.5}
"""Share of the lexical leg with which a fresh query starts; reformulation may change it."""

USUAL_DEPTH = 1000
"""Rankings are padded to a depth up to this, also where a corpus has fewer documents."""

BLOCK_CELLS = 1 << 24
"""Scores of one leg held at once where whole rows are needed: 64 MB of float32, or one row if that is more."""

Rows: TypeAlias = NDArray[np.intp]
Cells: TypeAlias = tuple[NDArray[np.intp], IntArray]
RowSearch: TypeAlias = Callable[[Queries, Rows, IntArray], Ranking]


class Retriever:
    """Searches a corpus; the lexical share of each query decides how much BM25 joins the cosine.

    Hybrid scores are the min-max scaled cosine and the min-max scaled BM25, each over all documents that may be
    returned, mixed by the query's share. At share 0 the score is the plain cosine, at 1 plain BM25.

    With an ``approximate`` index, queries of share 0 are searched there; all others need every score and stay exact.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        dense: DenseIndex,
        lexical: LexicalIndex,
        lexical_share: float,
        depth: int,
        approximate: ApproximateIndex | None = None,
    ) -> None:
        self.encoder = encoder
        self.dense = dense
        self.lexical = lexical
        self.lexical_share = lexical_share
        self.depth = min(depth, max(len(dense), USUAL_DEPTH))  # more there is not
        self.approximate = approximate

    @property
    def description(self) -> dict[str, object]:
        """Everything that shapes its rankings beside the corpus, JSON-able."""
        exact = {
            "encoder": self.encoder.fingerprint,
            "lexical_share": self.lexical_share,
            "depth": self.depth,
        }
        return {**exact, "approximate": self.approximate.description} if self.approximate else exact

    def queries(
        self, texts: Sequence[str], lexical_share: float | None = None, vectors: FloatArray | None = None
    ) -> Queries:
        """Encode fresh queries; ``lexical_share`` overrides the retriever's own, ``vectors`` (n, dim) are theirs where
        they were encoded before.
        """
        share = self.lexical_share if lexical_share is None else lexical_share
        if vectors is None:
            vectors = encode_texts(self.encoder, texts, "query")
        return Queries(
            list(texts), vectors, self.lexical.query_terms(texts), np.full(len(texts), share, dtype=np.float32)
        )

    def search(self, queries: Queries, exclude: IntArray | None = None) -> Ranking:
        """Top ``depth`` documents of each query; ``exclude`` (n,) names a document never to return, -1 for none.

        Exact unless there is an approximate index: what comparing all scores gives, equal ones by the lower index, and
        for each query the same bits alone as in a batch.
        Beside indexes and result, dense queries take about 64 MB, and others at most 320 MB or 20 bytes a document,
        whichever is more.
        """
        n, share = len(queries), queries.lexical
        exclude = np.full(n, NO_DOCUMENT, dtype=np.int32) if exclude is None else exclude
        found = Ranking(np.empty((n, self.depth), dtype=np.int32), np.empty((n, self.depth), dtype=np.float32))
        ways = (
            (self._dense, share == 0.0),
            (partial(self._by_rows, self._bm25), share == 1.0),
            (partial(self._by_rows, self._hybrid), (share != 0.0) & (share != 1.0)),
        )
        for way, asked in ways:
            if len(rows := np.flatnonzero(asked)):
                best = way(queries, rows, exclude[rows])
                found.documents[rows], found.scores[rows] = best.documents, best.scores
        return found

    def _dense(self, queries: Queries, rows: Rows, exclude: IntArray) -> Ranking:
        return (self.approximate or self.dense).search(queries.vectors[rows], self.depth, exclude)

    def _by_rows(self, search: RowSearch, queries: Queries, rows: Rows, exclude: IntArray) -> Ranking:
        """Search where a score depends on all documents of its row: whole rows, as many as fit, at a time."""
        block = max(1, BLOCK_CELLS // max(1, len(self.dense)))
        parts = [
            search(queries, rows[start : start + block], exclude[start : start + block])
            for start in range(0, len(rows), block)
        ]
        return Ranking(np.concatenate([p.documents for p in parts]), np.concatenate([p.scores for p in parts]))

    def _bm25(self, queries: Queries, rows: Rows, exclude: IntArray) -> Ranking:
        scores = self.lexical.scores(queries.terms[rows])
        scores[scores <= 0.0] = -np.inf  # BM25 alone returns no document that shares no word
        scores[_own(exclude)] = -np.inf
        return top_k(scores, self.depth)

    def _hybrid(self, queries: Queries, rows: Rows, exclude: IntArray) -> Ranking:
        # What may not be returned may not set the scale either: a query's own document would dwarf all others.
        vectors, share, own = queries.vectors[rows], queries.lexical[rows][:, None], _own(exclude)
        bm25 = self.lexical.scores(queries.terms[rows])
        bm25[own] = 0.0
        known = bm25.any(axis=1)
        bm25 = minmax_rows(bm25, own)
        bm25 *= np.where(known, share[:, 0], 0.0)[:, None].astype(np.float32)
        low, spread = self.dense.ranges(vectors, rough := self.dense.scores(vectors), exclude)

        unit = np.where(spread > 0, spread, np.float32(1.0))

        def mixed(cosines: FloatArray, words: FloatArray, row: Rows) -> FloatArray:
            """Of some documents of each row; one row's numbers are the same whatever is computed beside them."""
            scaled = np.where(spread[row, None] > 0, (cosines - low[row, None]) / unit[row, None], np.float32(1.0))
            return np.asarray(scaled * (np.float32(1.0) - share[row]) + words, dtype=np.float32)

        def pairs(row: Rows, documents: IntArray) -> FloatArray:
            cosines = pair_products(vectors[row], self.dense.vectors, documents)
            return mixed(cosines, np.take_along_axis(bm25[row], documents, axis=1), row)

        def whole(row: int) -> FloatArray:
            cosines = row_products(vectors[row], self.dense.vectors)[None]
            scores: FloatArray = mixed(cosines, bm25[row][None], np.array([row]))[0]
            scores[exclude[row : row + 1][exclude[row : row + 1] >= 0]] = -np.inf
            return scores

        everyone = np.arange(len(rows))
        scores = mixed(rough, bm25, everyone)
        scores[own] = -np.inf
        slack = np.asarray(rounding(vectors, self.dense.longest) / unit + 1e-6, dtype=np.float32)
        width = min(self.depth + RESERVE, max(len(self.dense), self.depth))
        return best_of(top_k(scores, width), self.depth, slack, pairs, whole)


def _own(exclude: IntArray) -> Cells:
    """The cells, a row a query, of the documents that may not be returned."""
    own = np.flatnonzero(exclude >= 0)
    return own, exclude[own]
