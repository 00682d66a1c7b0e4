"""From queries down the tree to tags: a beam search, level by level, all queries at once, by cosine or reward model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from searchrl.retrieval.ranking import FloatArray, IntArray
from searchrl.retrieval.tagtree.tree import NOTHING, TagTree
from searchrl.reward.reward_model import RewardModel

BLOCK_CELLS = 1 << 25
"""Numbers gathered at once: 128 MB of float32."""

Guide = Callable[[IntArray, FloatArray], FloatArray]
"""Says how good each query's clusters are: (n, k) nodes and their cosines -> (n, k), the higher the better. Where a row
has no more nodes, they are ``NOTHING``, and cosine and result -inf."""


@dataclass(frozen=True)
class Walk:
    """What n queries found on their way.

    tags: (n, width) int32, the tags that were reached, ``NOTHING`` past the end. scores: (n, width) float32, their
    cosines with the query, -inf there. compared: (n,) nodes that a query was compared with, tags among them.
    """

    tags: IntArray
    scores: FloatArray
    compared: IntArray


def walk(tree: TagTree, queries: FloatArray, beam_width: int, guide: Guide | None = None) -> Walk:
    """Walk from the root; of each level's clusters each query follows the ``beam_width`` best.

    queries: (n, dim) unit vectors. A cluster is as good as its cosine with the query, or as ``guide``
    says. Every tag in a cluster that was followed is reached.
    """
    n = len(queries)
    beam = np.zeros((n, 1), dtype=np.int32)
    tags, found, compared = [np.empty((n, 0), np.int32)], [np.empty((n, 0), np.float32)], np.zeros(n, dtype=np.int32)
    while (beam != NOTHING).any():
        children = _children(tree, beam)
        scores = _cosines(tree.vectors, queries, children)
        compared += (children != NOTHING).sum(axis=1, dtype=np.int32)
        own = np.where(children == NOTHING, NOTHING, tree.tag[children])
        reached = own != NOTHING
        tags.append(own)
        found.append(np.where(reached, scores, -np.inf).astype(np.float32))
        clusters = np.where(reached, NOTHING, children)
        goodness = np.where(clusters == NOTHING, -np.inf, scores)
        if guide is not None:
            goodness = guide(clusters, goodness)
        best = np.argsort(-goodness, axis=1, kind="stable")[:, :beam_width]
        beam = np.take_along_axis(clusters, best, axis=1)
    return _packed(np.concatenate(tags, axis=1), np.concatenate(found, axis=1), compared)


class RewardGuide:
    """Mixes a reward model's scores of (query, a cluster's representative tags) with the cosines, as z-scores.

    texts: the queries that walk, in order. weight: the reward model's share, 0 to 1. All clusters that the queries meet
    on a level are scored in one call, a pair once.
    """

    def __init__(self, tree: TagTree, reward_model: RewardModel, texts: Sequence[str], weight: float) -> None:
        self._tree, self._reward, self._texts, self._weight = tree, reward_model, texts, weight

    def __call__(self, clusters: IntArray, cosines: FloatArray) -> FloatArray:
        """See ``Guide``."""
        there = clusters != NOTHING
        rows, columns = np.nonzero(there)
        if not len(rows):
            return cosines
        met = zip(rows.tolist(), clusters[rows, columns].tolist(), strict=True)
        pairs = [(self._texts[row], self._tree.name(node)) for row, node in met]
        distinct = list(dict.fromkeys(pairs))
        scores = self._reward.score([query for query, _ in distinct], [name for _, name in distinct])
        known = dict(zip(distinct, scores.tolist(), strict=True))
        judged = np.full(cosines.shape, -np.inf, dtype=np.float32)
        judged[rows, columns] = [known[pair] for pair in pairs]
        mixed = self._weight * _z_scores(judged, there) + (1 - self._weight) * _z_scores(cosines, there)
        return np.where(there, mixed, -np.inf).astype(np.float32)


def _children(tree: TagTree, beam: IntArray) -> IntArray:
    """The children of each row's nodes, side by side, (n, k)."""
    counts = np.where(beam == NOTHING, 0, tree.count[beam])
    steps = np.arange(max(1, int(counts.max())), dtype=np.int32)
    nodes = np.where(steps < counts[:, :, None], tree.first[beam][:, :, None] + steps, NOTHING)
    return nodes.reshape(len(beam), -1).astype(np.int32)


def _cosines(vectors: FloatArray, queries: FloatArray, nodes: IntArray) -> FloatArray:
    """The cosine of each row's query with each of its nodes, (n, k); -inf where there is none."""
    scores = np.empty(nodes.shape, dtype=np.float32)
    height = max(1, BLOCK_CELLS // max(1, nodes.shape[1] * vectors.shape[1]))
    for start in range(0, len(nodes), height):
        rows = slice(start, start + height)
        scores[rows] = np.matmul(vectors[nodes[rows]], queries[rows, :, None])[:, :, 0]
    scores[nodes == NOTHING] = -np.inf
    return scores


def _packed(tags: IntArray, scores: FloatArray, compared: IntArray) -> Walk:
    """Best tags first, without columns that are empty."""
    order = np.argsort(-scores, axis=1, kind="stable")
    width = int((tags != NOTHING).sum(axis=1).max(initial=0))
    return Walk(
        np.take_along_axis(tags, order, axis=1)[:, :width],
        np.take_along_axis(scores, order, axis=1)[:, :width],
        compared,
    )


def _z_scores(scores: FloatArray, there: NDArray[np.bool_]) -> FloatArray:
    """Each row's scores less their mean, over their spread; 0 where there is none."""
    counts = np.maximum(there.sum(axis=1, keepdims=True), 1)
    values = np.where(there, scores, 0.0)
    apart = np.where(there, values - values.sum(axis=1, keepdims=True) / counts, 0.0)
    spread = np.sqrt((apart**2).sum(axis=1, keepdims=True) / counts)
    return np.asarray(apart / np.maximum(spread, 1e-6), dtype=np.float32)
