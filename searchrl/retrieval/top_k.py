"""The best k documents of every row, from score matrices that come a block of documents at a time.

A block's scores are first compared with the k-th best that each row has had so far. What stays below is never looked at
again, and after the first block that is nearly everything; so keeping the best costs little more than one comparison a
score, however large the corpus.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, Ranking

_FEW = 4
"""Up to this many times k new scores of a row are sorted as they are; of more, the best k are partitioned off first."""


class TopK:
    """The k best of n rows so far: highest score first, equal scores by the lower document, never a score of -inf.

    documents: (n, k) int32, ``NO_DOCUMENT`` past the end of a short row. scores: (n, k) float32, -inf there.
    """

    def __init__(self, n: int, k: int) -> None:
        self.documents = np.full((n, k), NO_DOCUMENT, dtype=np.int32)
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
        documents = np.full((len(counts), width), NO_DOCUMENT, dtype=np.int32)
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
