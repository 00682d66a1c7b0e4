"""Many rankings into one, anchored on the first, so that what the plain search found is never thrown away.

``fuse`` takes several rankings. ``minmax``: each list's scores scaled to [0, 1]; a document absent from a list scores 0
there (Fox and Shaw 1994). ``rrf``: 1 / (60 + rank) (Cormack, Clarke and Büttcher 2009). ``last``: no fusion, the newest
list. ``mix`` takes a ranking and a reward model's scores of its top; alone, a small model loses to the first stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from searchrl.config import FusionName
from searchrl.errors import ConfigError
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, FloatArray, Ranking

Normalisation = Literal["minmax", "zscore"]
Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
RRF_K = 60


def fuse(rankings: Sequence[Ranking], method: FusionName, anchor: float) -> Ranking:
    """Fuse the rankings of one batch of queries, first search first.

    anchor: weight of the first ranking in [0, 1]; the others share the rest equally. One ranking comes back as it is.
    Ties go to the document that stands earlier in the corpus.
    """
    if len(rankings) == 1 or method == "last":
        return rankings[-1]
    others = (1.0 - anchor) / (len(rankings) - 1)
    documents = np.concatenate([r.documents for r in rankings], axis=1)
    scores = np.concatenate(
        [list_scores(r, method) * (anchor if i == 0 else others) for i, r in enumerate(rankings)], axis=1
    )
    return top_of_pairs(documents, scores, rankings[0].documents.shape[1])


def list_scores(ranking: Ranking, method: FusionName) -> FloatArray:
    """What each place of a list is worth before weighting, (n, depth) in [0, 1]; 0 where there is no document."""
    present = ranking.documents != NO_DOCUMENT
    if method == "rrf":
        ranks = np.arange(1, ranking.documents.shape[1] + 1, dtype=np.float32)
        return np.where(present, (RRF_K + 1) / (RRF_K + ranks), 0.0).astype(np.float32)
    return minmax(ranking.scores, present)


def mix(ranking: Ranking, reward: FloatArray, weight: float, scale: Normalisation = "minmax") -> Ranking:
    """Reorder n rankings by ``(1 - weight) * score + weight * reward``, whichever of their documents have a reward.

    reward: (n, k), k at most the rankings' depth, for the first k documents; NaN where a document was not judged. Both
    are scaled over a row's judged documents: to [0, 1] (``minmax``), or to mean 0 and deviation 1 (``zscore``). Other
    scores keep their distance from these. An unjudged document counts as the row's least reward, and less than that by
    as much as its score lies below those of the judged: so what lies below all judged documents stays there. Equal ones
    keep the order they had; weight 0 keeps the ranking's order, 1 is the reward model alone. The scores that come out
    are the mixed ones. Raises ConfigError on a weight outside [0, 1].
    """
    if not 0.0 <= weight <= 1.0:
        raise ConfigError(f"the weight of the reward model is {weight}; it must lie between 0 and 1")
    present = ranking.documents != NO_DOCUMENT
    rewards = np.full(present.shape, np.nan)
    rewards[:, : reward.shape[1]] = reward
    judged = present & ~np.isnan(rewards)
    scores = np.where(present, ranking.scores, 0.0).astype(np.float64)
    scores, floor = _scaled(scores, judged, scale)
    values, least = _scaled(np.where(judged, rewards, 0.0), judged, scale)
    values = np.where(judged, values, least + np.minimum(scores - floor, 0.0))
    mixed = np.where(present, (1.0 - weight) * scores + weight * values, -np.inf)
    order = np.argsort(-mixed, axis=1, kind="stable")
    documents, mixed = (np.take_along_axis(array, order, axis=1) for array in (ranking.documents, mixed))
    return Ranking(documents, mixed.astype(np.float32))


def _scaled(
    values: NDArray[np.float64], judged: Mask, scale: Normalisation
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values (n, depth) in the scale of a row's judged ones, and the least of these, (n, 1); 0 where there is none."""
    low = np.where(judged, values, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    if scale == "minmax":
        centre, spread = low, np.where(judged, values, -np.inf).max(axis=1, keepdims=True, initial=-np.inf) - low
    else:
        centre, spread = moments(values, judged)
    known = judged.any(axis=1, keepdims=True)
    centre, unit = np.where(known, centre, 0.0), np.where(known & (spread > 0), spread, 1.0)
    return (values - centre) / unit, np.where(known, (np.where(known, low, 0.0) - centre) / unit, 0.0)


def z_scores(values: NDArray[np.floating[Any]], present: Mask) -> FloatArray:
    """Standard scores along each row of the values that are present; 0 for the others, and all over a constant row."""
    mean, spread = moments(values, present)
    return np.where(present & (spread > 0), (values - mean) / np.where(spread > 0, spread, 1.0), 0.0)


def moments(values: NDArray[np.floating[Any]], present: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each row's present values, (n, 1) each; what rounding leaves is no deviation."""
    counts = np.maximum(present.sum(axis=1, keepdims=True), 1)
    known = np.where(present, values, 0.0).astype(np.float64)
    mean = known.sum(axis=1, keepdims=True) / counts
    spread = np.sqrt((np.where(present, known - mean, 0.0) ** 2).sum(axis=1, keepdims=True) / counts)
    return mean, np.where(spread <= 1e-9 * np.abs(known).max(axis=1, keepdims=True, initial=0.0), 0.0, spread)


def minmax(scores: FloatArray, present: Mask) -> FloatArray:
    """Scale each row's present scores to [0, 1]; a row of equal scores becomes 1; what is absent becomes 0."""
    low = np.where(present, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high = np.where(present, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    spread = high - low
    with np.errstate(invalid="ignore"):
        scaled = np.where(spread > 0, (scores - low) / np.where(spread > 0, spread, 1.0), 1.0)
    return np.where(present, scaled, 0.0).astype(np.float32)


def minmax_rows(scores: FloatArray, own: tuple[np.ndarray, np.ndarray]) -> FloatArray:
    """``minmax`` in place, for matrices too large to copy. Returns ``scores``.

    own: (rows, columns) of cells that do not count for the scale, one a row at most; they come out finite, no more.
    """
    scores[own] = np.inf
    low = scores.min(axis=1, initial=np.inf)
    scores[own] = -np.inf
    spread = scores.max(axis=1, initial=-np.inf) - low
    constant = ~(spread > 0)
    low[constant], spread[constant] = 0.0, 1.0
    scores[own] = low[own[0]]
    scores -= low[:, None]
    scores /= spread[:, None]
    scores[constant] = 1.0
    return scores


def top_of_pairs(documents: np.ndarray, scores: FloatArray, depth: int) -> Ranking:
    """Add up the scores of documents that occur several times in a row and keep the best ``depth``."""
    order = np.argsort(documents, axis=1, kind="stable")
    docs = np.take_along_axis(documents, order, axis=1)
    vals = np.take_along_axis(scores, order, axis=1).astype(np.float64)
    first = np.ones(docs.shape, dtype=bool)
    first[:, 1:] = docs[:, 1:] != docs[:, :-1]
    starts = np.flatnonzero(first.ravel())  # groups never span rows: every row starts one
    sums = np.full(docs.shape, -np.inf)
    sums[first] = np.add.reduceat(vals.ravel(), starts)
    sums[docs == NO_DOCUMENT] = -np.inf
    best = np.argsort(-sums, axis=1, kind="stable")[:, :depth]
    top_scores = np.take_along_axis(sums, best, axis=1).astype(np.float32)
    top_docs = np.where(np.isfinite(top_scores), np.take_along_axis(docs, best, axis=1), NO_DOCUMENT)
    return Ranking(top_docs.astype(DOCUMENT), top_scores)
