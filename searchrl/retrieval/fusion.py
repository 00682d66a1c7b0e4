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
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, Ranking

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


def mix(ranking: Ranking, reward: FloatArray, weight: float, normalisation: Normalisation) -> Ranking:
    """Reorder the top of n rankings by ``(1 - weight) * score + weight * reward``, normalised; the rest stays below.

    reward: (n, k) for the first k documents of each ranking; NaN where there is no score, which counts as a row's least
    (minmax) or its mean (zscore). Both are normalised over a query's k documents. Equal ones keep the order they had.
    weight 0 keeps the ranking's order, 1 is the reward model alone. The scores that come out are the mixed ones; for
    ``minmax`` the top lies in [1, 2] and the rest is scaled to [0, 1]; for ``zscore`` the rest is shifted as a whole,
    so that its first stands 1 under the last of the top. Raises ConfigError on a weight outside [0, 1].
    """
    if not 0.0 <= weight <= 1.0:
        raise ConfigError(f"the weight of the reward model is {weight}; it must lie between 0 and 1")
    k = reward.shape[1]
    documents, scores = ranking.documents.copy(), ranking.scores.astype(np.float64)
    present = documents[:, :k] != NO_DOCUMENT
    scale = minmax if normalisation == "minmax" else z_scores
    mixed = (1.0 - weight) * scale(ranking.scores[:, :k], present)
    mixed = np.where(present, mixed + weight * scale(reward, present & ~np.isnan(reward)), -np.inf)
    order = np.argsort(-mixed, axis=1, kind="stable")
    documents[:, :k] = np.take_along_axis(documents[:, :k], order, axis=1)
    scores[:, :k] = np.take_along_axis(mixed, order, axis=1)
    rest = np.isfinite(scores[:, k:])
    if normalisation == "minmax":
        scores[:, :k] += 1.0
        scores[:, k:] = np.where(rest, minmax(ranking.scores[:, k:], rest), -np.inf)
    elif rest.any():  # a short list has its gap at the end, so where there is a rest the top is full
        full = rest[:, 0]
        scores[full, k:] += (scores[full, k - 1] - 1.0 - scores[full, k])[:, None]
    return Ranking(documents, scores.astype(np.float32))


def mix_judged(ranking: Ranking, reward: FloatArray, weight: float) -> Ranking:
    """Reorder n rankings by ``(1 - weight) * score + weight * reward``, whichever of their documents have a reward.

    reward: (n, depth), NaN where a document was not judged, which counts as the row's least. Both are scaled so that
    the judged documents of a row span [0, 1]; a score outside that range keeps its distance. Equal ones keep the order
    they had, and weight 0 keeps the ranking's.
    """
    present = ranking.documents != NO_DOCUMENT
    judged = present & ~np.isnan(reward)
    scores = np.where(present, ranking.scores, 0.0).astype(np.float64)
    low = np.where(judged, scores, np.inf).min(axis=1, keepdims=True)
    spread = np.where(judged, scores, -np.inf).max(axis=1, keepdims=True) - low
    known = judged.any(axis=1, keepdims=True)
    scaled = (scores - np.where(known, low, 0.0)) / np.where(known & (spread > 0), spread, 1.0)
    mixed = np.where(present, (1.0 - weight) * scaled + weight * minmax(reward, judged), -np.inf)
    order = np.argsort(-mixed, axis=1, kind="stable")
    documents, mixed = (np.take_along_axis(array, order, axis=1) for array in (ranking.documents, mixed))
    return Ranking(documents, mixed.astype(np.float32))


def z_scores(values: NDArray[np.floating[Any]], present: Mask) -> FloatArray:
    """Standard scores along each row of the values that are present; 0 for the others, and all over a constant row."""
    counts = np.maximum(present.sum(axis=1, keepdims=True), 1)
    known = np.where(present, values, 0.0).astype(np.float64)
    centred = np.where(present, known - known.sum(axis=1, keepdims=True) / counts, 0.0)
    spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / counts)
    # What rounding leaves of a constant row is no spread.
    constant = spread <= 1e-9 * np.abs(known).max(axis=1, keepdims=True, initial=0.0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))


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
    return Ranking(top_docs.astype(np.int32), top_scores)
