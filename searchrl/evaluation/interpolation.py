"""Rerank by interpolation: the first stage's scores and a reward model's, each in units of its own spread.

Never replaced by default: alone, a small judge loses to the first stage (docs/LOG.md).
"""

from __future__ import annotations

import numpy as np

from searchrl.errors import ConfigError
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, Ranking


def interpolate(ranking: Ranking, reward: FloatArray, weight: float) -> Ranking:
    """Reorder the top of n rankings by ``(1 - weight) * z(score) + weight * z(reward)``; the rest stays below it.

    reward: (n, k) for the first k documents of each ranking; what stands where there is no document does not matter.
    z is taken over a query's k documents: minus their mean, by their standard deviation (0 where all are equal). Equal
    ones keep the order they had. Below the top, scores are shifted as a whole, so that the first of them stands 1 under
    the last of the top. weight 0 keeps the ranking's order, 1 is the reward model alone. Raises ConfigError on a weight
    outside [0, 1].
    """
    if not 0.0 <= weight <= 1.0:
        raise ConfigError(f"the weight of interpolation is {weight}; it must lie between 0 and 1")
    k = reward.shape[1]
    present = ranking.documents[:, :k] != NO_DOCUMENT
    mixed = (1.0 - weight) * z_scores(ranking.scores[:, :k], present) + weight * z_scores(reward, present)
    mixed[~present] = -np.inf
    order = np.argsort(-mixed, axis=1, kind="stable")
    documents, scores = ranking.documents.copy(), ranking.scores.astype(np.float64)
    documents[:, :k] = np.take_along_axis(documents[:, :k], order, axis=1)
    scores[:, :k] = np.take_along_axis(mixed, order, axis=1)
    if k < scores.shape[1]:  # a short list has its gap at the end, so where there is a tail the top is full
        tail = np.isfinite(scores[:, k])
        scores[tail, k:] += (scores[tail, k - 1] - 1.0 - scores[tail, k])[:, None]
    return Ranking(documents, scores.astype(np.float32))


def z_scores(values: FloatArray, present: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> np.ndarray:
    """Standard scores along each row of the values that are present; 0 for the others, and all over a constant row."""
    counts = np.maximum(present.sum(axis=1, keepdims=True), 1)
    known = np.where(present, values, 0.0).astype(np.float64)
    centred = np.where(present, known - known.sum(axis=1, keepdims=True) / counts, 0.0)
    spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / counts)
    # What rounding leaves of a constant row is no spread.
    constant = spread <= 1e-9 * np.abs(known).max(axis=1, keepdims=True, initial=0.0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))
