"""How the cosine and BM25 of a document become one score: each scaled to [0, 1] over all that may be returned, then
mixed by the query's lexical share.

One arithmetic for every index: a document's score is the same bits wherever it is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from searchrl.retrieval.ranking import FloatArray


@dataclass(frozen=True)
class Mixture:
    """The scales of n queries.

    share: (n, 1) of the lexical leg. low, spread: (n,) lowest cosine, and the distance to the highest.
    """

    share: FloatArray
    low: FloatArray
    spread: FloatArray

    @property
    def unit(self) -> FloatArray:
        """(n,) by which a cosine is divided."""
        return np.where(self.spread > 0, self.spread, np.float32(1.0))

    def scores(self, cosines: FloatArray, words: FloatArray, rows: NDArray[np.intp]) -> FloatArray:
        """Scores of some documents of the queries ``rows`` (m,), (m, documents).

        words: their BM25, scaled and times the share. One row's numbers are the same whatever is computed beside them.
        """
        spread = self.spread[rows, None]
        scaled = np.where(spread > 0, (cosines - self.low[rows, None]) / self.unit[rows, None], np.float32(1.0))
        return np.asarray(scaled * (np.float32(1.0) - self.share[rows]) + words, dtype=np.float32)


def scaled_words(bm25: FloatArray, low: float, high: float, share: float) -> FloatArray:
    """BM25 of documents scaled by the lowest and highest that there is, and times the share; 0 where none is above 0.

    The same operations in the same order as ``fusion.minmax_rows``, which works on whole rows.
    """
    if high <= 0:
        return np.zeros_like(bm25)
    least, spread = np.float32(low), np.float32(high) - np.float32(low)
    scaled = (bm25 - least) / spread if spread > 0 else np.ones_like(bm25)
    return np.asarray(scaled * np.float32(share), dtype=np.float32)
