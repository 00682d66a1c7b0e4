"""Exact search of a dense index on any device."""

from __future__ import annotations

import numpy as np

from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, IntArray, Ranking

BLOCK_CELLS = 1 << 27
"""Scores held on a device at once: 512 MB."""


def search(index: DenseIndex, queries: FloatArray, k: int, exclude: IntArray, device: str) -> Ranking:
    """``DenseIndex.search`` on a device of torch's; on the CPU that itself, which is faster there.

    queries: (n, dim). exclude: (n,) a document that is not to be returned, negative for none. Of documents with the
    very same score at the end of a list, any may be returned by a GPU; within it, they stand by the lower index.
    """
    if device == "cpu":
        return index.search(queries, k, exclude)
    return search_with_torch(index, queries, k, exclude, device)


def search_with_torch(index: DenseIndex, queries: FloatArray, k: int, exclude: IntArray, device: str) -> Ranking:
    """See ``search``; any device."""
    import torch

    vectors = torch.from_numpy(np.array(index.vectors)).to(device)
    height, found = max(1, BLOCK_CELLS // max(1, len(index))), min(k, len(index))
    documents = np.full((len(queries), k), NO_DOCUMENT, dtype=np.int32)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for start in range(0, len(queries), height):
        rows = slice(start, start + height)
        block = torch.from_numpy(np.ascontiguousarray(queries[rows])).to(device) @ vectors.T
        own = np.flatnonzero(exclude[rows] >= 0)
        block[own.tolist(), exclude[rows][own].tolist()] = -torch.inf
        values, places = (tensor.cpu().numpy() for tensor in block.topk(found, dim=1))
        order = np.lexsort((places, -values), axis=1)
        scores[rows, :found] = np.take_along_axis(values, order, axis=1)
        documents[rows, :found] = np.take_along_axis(places, order, axis=1)
    documents[np.isneginf(scores)] = NO_DOCUMENT
    return Ranking(documents, scores)
