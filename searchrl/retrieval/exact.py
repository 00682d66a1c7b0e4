"""Inner products that do not depend on company: the same bits for a query alone as in any batch, on any processor.

A matrix product may add up a row's terms in another order when it has other rows beside it, so its last bits differ,
near-equal documents change places, and rank fusion makes a step of that. Here a fast product only chooses candidates;
what orders documents is computed pair by pair, each over its own two vectors alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, IntArray, Ranking
from searchrl.retrieval.top_k import TopK

RESERVE = 28
"""Candidates beyond the k asked for, so that nearly always all that could be among the best k are there."""

BLOCK_FLOATS = 1 << 22
"""Numbers of gathered vectors held at once: 16 MB."""

PairScores = Callable[[NDArray[np.intp], IntArray], FloatArray]
"""From rows (n,) and documents (n, m), none of them ``NO_DOCUMENT``, to their exact scores (n, m)."""


def pair_products(queries: FloatArray, vectors: FloatArray, documents: IntArray) -> FloatArray:
    """Inner products of each query (n, dim) with its own documents (n, m), rows of ``vectors``; (n, m) float32."""
    n, m = documents.shape
    products = np.empty((n, m), dtype=np.float32)
    step = max(1, BLOCK_FLOATS // max(1, m * queries.shape[1]))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        gathered = np.ascontiguousarray(vectors[documents[rows]])
        products[rows] = np.einsum("nmd,nd->nm", gathered, np.ascontiguousarray(queries[rows]))
    return products


def row_products(query: FloatArray, vectors: FloatArray) -> FloatArray:
    """Inner products of one query (dim,) with every vector, (documents,), bit for bit as ``pair_products`` has them."""
    products = np.empty(len(vectors), dtype=np.float32)
    step = max(1, BLOCK_FLOATS // max(1, len(query)))
    for start in range(0, len(vectors), step):
        part = np.ascontiguousarray(vectors[start : start + step])
        products[start : start + step] = np.einsum("nmd,nd->nm", part[None], query[None])[0]
    return products


def rounding(queries: FloatArray, longest: float) -> FloatArray:
    """By how much two float32 inner products of the same vectors can differ at most, (n,); ``longest``: a norm.

    Twice the bound of Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.
    """
    unit = float(np.finfo(np.float32).eps)
    return np.asarray(queries.shape[1] * unit * longest * np.linalg.norm(queries, axis=1), dtype=np.float32)


def best_of(
    candidates: Ranking, k: int, slack: FloatArray, pairs: PairScores, whole: Callable[[int], FloatArray]
) -> Ranking:
    """The k best documents by exact scores, equal ones by the lower index.

    candidates: more than k a row, by scores that are off by at most ``slack`` (n,). Where a document that is not among
    them could belong to the best, ``whole`` gives the exact scores of a row's every document, -inf for none.
    """
    documents = candidates.documents
    n, width = documents.shape
    present = documents != NO_DOCUMENT
    scores = pairs(np.arange(n), np.maximum(documents, 0))
    scores = np.where(present, scores, np.float32(-np.inf))
    order = np.lexsort((np.where(present, documents, np.iinfo(np.int32).max), -scores), axis=1)[:, :k]
    found, best = np.take_along_axis(documents, order, axis=1), np.take_along_axis(scores, order, axis=1)
    if width < k:
        fill = ((0, 0), (0, k - width))
        found = np.pad(found, fill, constant_values=NO_DOCUMENT)
        best = np.pad(best, fill, constant_values=-np.inf)
    # All of a row are among the candidates where there is room left.
    doubtful = present[:, -1] & ~(best[:, -1] > candidates.scores[:, -1] + slack)
    for row in np.flatnonzero(doubtful):
        again = TopK(1, k)
        again.add(slice(0, 1), whole(int(row))[None])
        found[row], best[row] = again.documents[0], again.scores[0]
    return Ranking(found, best)
