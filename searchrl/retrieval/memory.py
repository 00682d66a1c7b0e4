"""The index in this process: every score is computed, nothing is left out. What other indexes are measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from searchrl.retrieval.dense import RESERVE, DenseIndex, best_of, pair_products, rounding, row_products
from searchrl.retrieval.fusion import minmax_rows
from searchrl.retrieval.hybrid import Mixture
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.ranking import FloatArray, IntArray, Queries, Ranking, top_k

BLOCK_CELLS = 1 << 24
"""Scores of one leg held at once where whole rows are needed: 64 MB of float32, or one row if that is more."""

Cells: TypeAlias = tuple[NDArray[np.intp], IntArray]


class MemoryIndex:
    """Vectors and terms of a corpus, each in an index of its own.

    Equal scores are ordered by the lower document, and a query's ranking is the same bits alone as in a batch. Beside
    indexes and result, dense queries take about 64 MB, and others at most 320 MB or 20 bytes a document, whichever is
    more.
    """

    def __init__(self, dense: DenseIndex, words: LexicalIndex) -> None:
        self.dense = dense
        self.words = words

    def __len__(self) -> int:
        return len(self.dense)

    @property
    def description(self) -> Mapping[str, object]:
        """Nothing: its rankings are exact."""
        return {}

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Term -> its column."""
        return self.words.vocabulary

    @property
    def idf(self) -> NDArray[np.float64]:
        """(vocabulary,) inverse document frequency of each term."""
        return self.words.idf

    def query_terms(self, texts: Sequence[str]) -> Any:
        """Term counts of texts, CSR (len(texts), vocabulary)."""
        return self.words.query_terms(texts)

    def terms(self, documents: IntArray) -> Any:
        """Weights of every term of documents (m,), CSR (m, vocabulary)."""
        return self.words.terms(documents)

    def vectors(self, documents: IntArray) -> FloatArray:
        """Vectors of documents of any shape, (*shape, dim)."""
        return np.asarray(self.dense.vectors[documents])

    def texts(self, documents: IntArray) -> list[str]:
        """Title and text of documents (m,)."""
        return list(self.words.corpus.full_texts(documents.tolist()))

    def nearest(self, vectors: FloatArray, k: int, exclude: IntArray) -> Ranking:
        """See ``DenseIndex.search``."""
        return self.dense.search(vectors, k, exclude)

    def lexical(self, terms: Any, k: int, exclude: IntArray) -> Ranking:
        """BM25 alone; no document that shares no word."""

        def search(rows: slice) -> Ranking:
            scores = self.words.scores(terms[rows])
            scores[scores <= 0.0] = -np.inf
            scores[_own(exclude[rows])] = -np.inf
            return top_k(scores, k)

        return self._by_rows(search, terms.shape[0], k)

    def hybrid(self, queries: Queries, k: int, exclude: IntArray) -> Ranking:
        """Cosine and BM25, each scaled over all documents that may be returned."""
        return self._by_rows(lambda rows: self._hybrid(queries, rows, k, exclude[rows]), len(queries), k)

    def _by_rows(self, search: Callable[[slice], Ranking], n: int, k: int) -> Ranking:
        """Search where a score depends on all documents of its row: whole rows, as many as fit, at a time."""
        block = max(1, BLOCK_CELLS // max(1, len(self)))
        parts = [search(slice(start, start + block)) for start in range(0, n, block)]
        if not parts:
            return top_k(np.empty((0, 1), dtype=np.float32), k)
        return Ranking(np.concatenate([p.documents for p in parts]), np.concatenate([p.scores for p in parts]))

    def _hybrid(self, queries: Queries, rows: slice, k: int, exclude: IntArray) -> Ranking:
        # What may not be returned may not set the scale either: a query's own document would dwarf all others.
        vectors, share, own = queries.vectors[rows], queries.lexical[rows][:, None], _own(exclude)
        bm25 = self.words.scores(queries.terms[rows])
        bm25[own] = 0.0
        known = bm25.any(axis=1)
        bm25 = minmax_rows(bm25, own)
        bm25 *= np.where(known, share[:, 0], 0.0)[:, None].astype(np.float32)
        mixture = Mixture(share, *self.dense.ranges(vectors, rough := self.dense.scores(vectors), exclude))

        def pairs(row: NDArray[np.intp], documents: IntArray) -> FloatArray:
            cosines = pair_products(vectors[row], self.dense.vectors, documents)
            return mixture.scores(cosines, np.take_along_axis(bm25[row], documents, axis=1), row)

        def whole(row: int) -> FloatArray:
            cosines = row_products(vectors[row], self.dense.vectors)[None]
            scores: FloatArray = mixture.scores(cosines, bm25[row][None], np.array([row]))[0]
            scores[exclude[row : row + 1][exclude[row : row + 1] >= 0]] = -np.inf
            return scores

        scores = mixture.scores(rough, bm25, np.arange(len(vectors)))
        scores[own] = -np.inf
        slack = np.asarray(rounding(vectors, self.dense.longest) / mixture.unit + 1e-6, dtype=np.float32)
        width = min(k + RESERVE, max(len(self), k))
        return best_of(top_k(scores, width), k, slack, pairs, whole)


def _own(exclude: IntArray) -> Cells:
    """The cells, a row a query, of the documents that may not be returned."""
    own = np.flatnonzero(exclude >= 0)
    return own, exclude[own]
