"""Rankings and queries as arrays, a row a query, and the best k documents of every row of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.integer[Any]]

DOCUMENT = np.int64
"""Type of the numbers of documents in rankings: a corpus may have more than 2^31."""


NO_DOCUMENT = -1
"""Fills the tail of a ranking that has fewer documents than its depth; its score is -inf."""


def as_stored(documents: IntArray, corpus: int) -> IntArray:
    """Numbers of documents of a corpus of that size in as few bytes as will do: 4 up to 2^31 documents."""
    return documents.astype(np.int32 if corpus <= np.iinfo(np.int32).max else DOCUMENT)


def unit_rows(vectors: NDArray[np.floating[Any]]) -> FloatArray:
    """Rows (n, dim) scaled to length 1, float32; a row of zeros stays."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def lengths(vectors: NDArray[np.floating[Any]]) -> FloatArray:
    """Norms of vectors along the last axis, which stays, of size 1: exactly 1 for unit vectors, whatever their last
    bits, so that dividing by it leaves them as they are.
    """
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(np.where(np.abs(norms - 1.0) < 1e-4, 1.0, np.maximum(norms, 1e-12)), dtype=np.float32)


@dataclass(frozen=True)
class Ranking:
    """The top documents of n queries, best first.

    documents: (n, depth) int64 corpus indices, ``NO_DOCUMENT`` past the end of a short list.
    scores: (n, depth) float32, not increasing along a row.
    """

    documents: IntArray
    scores: FloatArray

    def __len__(self) -> int:
        return len(self.documents)

    def row(self, i: int) -> Ranking:
        """Query i alone, still with its leading axis."""
        return Ranking(self.documents[i : i + 1], self.scores[i : i + 1])

    def take(self, rows: NDArray[np.intp]) -> Ranking:
        """The queries ``rows`` (m,)."""
        return Ranking(self.documents[rows], self.scores[rows])


@dataclass(frozen=True)
class Queries:
    """n queries in every form that retrieval reads.

    texts: n strings.
    vectors: (n, dim) float32, unit length.
    terms: (n, vocabulary) scipy CSR of float32 term weights for the lexical leg.
    lexical: (n,) float32 in [0, 1]: share of the lexical leg in the ranking; 0 is dense alone.
    """

    texts: Sequence[str]
    vectors: FloatArray
    terms: Any
    lexical: FloatArray

    def __len__(self) -> int:
        return len(self.texts)

    def row(self, i: int) -> Queries:
        """Query i alone, still with its leading axis."""
        keep = slice(i, i + 1)
        return Queries([self.texts[i]], self.vectors[keep], self.terms[keep], self.lexical[keep])

    def take(self, rows: NDArray[np.intp]) -> Queries:
        """The queries ``rows`` (m,)."""
        return Queries([self.texts[i] for i in rows], self.vectors[rows], self.terms[rows], self.lexical[rows])


_FEW = 4
"""Up to this many times k new scores of a row are sorted as they are; of more, the best k are partitioned off first."""


class TopK:
    """The k best of n rows so far: highest score first, equal scores by the lower document, never a score of -inf.

    A block's scores are first compared with each row's k-th best so far; what stays below, nearly everything after the
    first block, is never looked at again.

    documents: (n, k) int64, ``NO_DOCUMENT`` past the end of a short row. scores: (n, k) float32, -inf there.
    """

    def __init__(self, n: int, k: int) -> None:
        self.documents = np.full((n, k), NO_DOCUMENT, dtype=DOCUMENT)
        self.scores = np.full((n, k), -np.inf, dtype=np.float32)

    def add(self, rows: slice, scores: FloatArray, first: int = 0) -> None:
        """Take in the scores of documents ``first``, ``first + 1``, ... for some rows, (rows, documents) without NaN.

        A row's blocks have to come in the order of the corpus: of equal scores, the one that came earlier stays.
        """
        k = self.scores.shape[1]
        above = scores > self.scores[rows, -1:]
        counts = _count(above)
        crowded = np.flatnonzero(counts > _FEW * k)
        if len(crowded):
            above[crowded] = _best(scores[crowded], k)
            counts[crowded] = k
        if not counts.any():
            return
        flat = np.flatnonzero(above)
        row, column = np.divmod(flat, above.shape[1])
        place = k + np.arange(len(flat)) - np.repeat(np.cumsum(counts) - counts, counts)
        width = k + int(counts.max())
        merged = np.full((len(counts), width), -np.inf, dtype=np.float32)
        documents = np.full((len(counts), width), NO_DOCUMENT, dtype=DOCUMENT)
        merged[:, :k], documents[:, :k] = self.scores[rows], self.documents[rows]
        merged[row, place], documents[row, place] = scores[row, column], column + first
        order = np.argsort(-merged, axis=1, kind="stable")[:, :k]
        self.scores[rows] = np.take_along_axis(merged, order, axis=1)
        self.documents[rows] = np.take_along_axis(documents, order, axis=1)

    @property
    def ranking(self) -> Ranking:
        """What has been found."""
        return Ranking(self.documents, self.scores)


def top_k(scores: FloatArray, k: int) -> Ranking:
    """The k best of each row of one matrix, (rows, documents)."""
    best = TopK(len(scores), k)
    best.add(slice(0, len(scores)), scores)
    return best.ranking


def _best(scores: FloatArray, k: int) -> NDArray[np.bool_]:
    """Mark exactly k scores of each row, of those equal to the k-th best the first ones."""
    kth = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k, None]
    best: NDArray[np.bool_] = scores >= kth
    excess = _count(best) - k
    for row in np.flatnonzero(excess):
        equal = np.flatnonzero(scores[row] == kth[row])
        best[row, equal[-excess[row] :]] = False
    return best


def _count(marks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Marks in each row; several times faster than ``sum(axis=1)``."""
    return np.fromiter(map(np.count_nonzero, marks), dtype=np.int64, count=len(marks))
