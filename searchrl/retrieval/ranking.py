"""Rankings and queries as arrays, a row a query, so that everything works on whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]

NO_DOCUMENT = -1
"""Fills the tail of a ranking that has fewer documents than its depth; its score is -inf."""


@dataclass(frozen=True)
class Ranking:
    """The top documents of n queries, best first.

    documents: (n, depth) int32 corpus indices, ``NO_DOCUMENT`` past the end of a short list.
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
