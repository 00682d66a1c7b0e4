"""A reward model on the way down: what it says of a query and the tags that stand for a cluster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from searchrl.retrieval.ranking import FloatArray, IntArray
from searchrl.reward.reward_model import RewardModel
from searchrl.tagtree.tree import NOTHING, TagTree


class RewardGuide:
    """Mixes a reward model's scores of (query, a cluster's representative tags) with the cosines, as z-scores.

    texts: the queries that walk, in order. weight: the reward model's share, 0 to 1. All clusters that the queries meet
    on a level are scored in one call, a pair once.
    """

    def __init__(self, tree: TagTree, reward_model: RewardModel, texts: Sequence[str], weight: float) -> None:
        self._tree, self._reward, self._texts, self._weight = tree, reward_model, texts, weight

    def __call__(self, clusters: IntArray, cosines: FloatArray) -> FloatArray:
        """See ``walk.Guide``."""
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


def _z_scores(scores: FloatArray, there: NDArray[np.bool_]) -> FloatArray:
    """Each row's scores less their mean, over their spread; 0 where there is none."""
    counts = np.maximum(there.sum(axis=1, keepdims=True), 1)
    values = np.where(there, scores, 0.0)
    apart = np.where(there, values - values.sum(axis=1, keepdims=True) / counts, 0.0)
    spread = np.sqrt((apart**2).sum(axis=1, keepdims=True) / counts)
    return np.asarray(apart / np.maximum(spread, 1e-6), dtype=np.float32)
