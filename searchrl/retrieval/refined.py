"""Exact rankings from an engine that can only name candidates.

An engine's scores are rounded in its own way, and a mixture of two legs it does not know at all. So it is asked for
more documents than are wanted, these are scored here, and where a document that was not named could still be among the
best, it is asked for more: the threshold algorithm of Fagin, Lotem and Naor (2003).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from searchrl.retrieval.dense import RESERVE
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, FloatArray, Ranking

GROWTH = 4
"""Times as many candidates are asked for each time."""


@dataclass(frozen=True)
class Candidates:
    """Of one query: some documents, their scores, and what no other document's score exceeds."""

    documents: NDArray[np.int64]
    scores: FloatArray
    """Exact; -inf for what may not be returned."""
    others: float
    """-inf where there are no other documents."""


Ask = Callable[[NDArray[np.intp], int], list[Candidates]]
"""Rows of the queries, and how many documents each leg shall name -> the candidates of each."""


def refined(ask: Ask, n: int, k: int, most: int, block: int = 64) -> Ranking:
    """The k best documents of n queries, equal ones by the lower document.

    most: documents that the engine names at most; where that many do not settle it, what they give stands. block:
    queries that are asked together.
    """
    found = Ranking(np.full((n, k), NO_DOCUMENT, DOCUMENT), np.full((n, k), -np.inf, np.float32))
    for start in range(0, n, block):
        rows, width = np.arange(start, min(start + block, n)), min(k + RESERVE, most)
        while len(rows):
            doubtful = []
            for row, candidates in zip(rows.tolist(), ask(rows, width), strict=True):
                scores = np.asarray(candidates.scores, dtype=np.float32)
                order = np.lexsort((candidates.documents, -scores))[:k]
                order = order[scores[order] > -np.inf]
                found.documents[row, : len(order)] = candidates.documents[order]
                found.scores[row, : len(order)] = scores[order]
                if not found.scores[row, -1] > candidates.others > -np.inf:
                    doubtful += [row] if candidates.others > -np.inf else []
            if width >= most:
                break
            rows, width = np.array(doubtful, dtype=np.intp), min(GROWTH * width, most)
    return found
