"""From what a judge says to what a ranking is worth: scores become gains in [0, 1], gains become nDCG.

A reward model whose scores are not absolute (a likelihood, say) has no scale of its own, so its scores are compared
within the query's pool: every document known for the query. The ideal ranking is taken over that same pool. An ideal
taken from the list itself gives 1.0 to a list of equally bad documents; it is here to reproduce published tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from searchrl.errors import ConfigError, DataError, ModelError, nearest

Gains = NDArray[np.float64]
Ideal = Literal["pooled", "list"]


@dataclass(frozen=True)
class Calibration:
    """The logistic map from a z-score within the query's pool to a gain: ``1 / (1 + exp(-(slope * z + offset)))``.

    The defaults stand in for human judgments where there are none to fit on: a document of average score gains .18, one
    two standard deviations above it .62, because most of what is retrieved is not relevant.
    """

    slope: float = 1.0
    offset: float = -1.5


DEFAULT_CALIBRATION = Calibration()


def calibrate(
    scores: ArrayLike,
    absolute: bool,
    slope: float = DEFAULT_CALIBRATION.slope,
    offset: float = DEFAULT_CALIBRATION.offset,
) -> Gains:
    """Turn raw reward model scores into gains.

    scores: (n, pool), row i the pool of query i, NaN where the pool is shorter. ``absolute`` scores are clipped to
    [0, 1]; others are z-scored within their row (all equal where the row has no spread) and mapped by ``Calibration``.
    Returns (n, pool) float64 gains in [0, 1]; 0 where there is no document. Raises ModelError on an infinite score.
    """
    raw = _finite(scores)
    if absolute:
        return np.clip(np.nan_to_num(raw), 0.0, 1.0)
    from scipy.special import expit

    return np.where(np.isnan(raw), 0.0, expit(slope * _z_scores(raw) + offset))


def fit_calibration(scores: ArrayLike, grades: ArrayLike) -> Calibration:
    """Fit slope and offset to human judgments, by logistic regression of the judged gain on the z-score.

    scores: (n, pool) as in ``calibrate``. grades: (n, pool), NaN (not judged) and negative count as 0; a grade's target
    is its share of the highest grade. Targets are drawn in from 0 and 1 as in Platt (1999), "Probabilistic outputs for
    support vector machines", which keeps the fit finite when scores separate the classes. A negative slope says
    that the judge ranks backwards. Raises DataError where no scored document is relevant, or all are equally so.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    raw = _finite(scores)
    known = ~np.isnan(raw)
    z = _z_scores(raw)[known]
    grade = np.fmax(np.asarray(grades, dtype=np.float64), 0.0)[known]
    if not grade.size or grade.min() == grade.max():
        raise DataError(
            "cannot calibrate the reward model's scores: the human judgments do not tell the scored documents apart; "
            "use queries with judged relevant documents among the retrieved, or keep the default calibration"
        )
    share = grade / grade.max()
    relevant = share.sum()
    low, high = 1 / (share.size - relevant + 2), (relevant + 1) / (relevant + 2)
    target = low + share * (high - low)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = parameters[0] * z + parameters[1]
        error = expit(logit) - target
        cross_entropy = np.logaddexp(0.0, logit) - target * logit
        return float(cross_entropy.mean()), np.array([(error * z).mean(), error.mean()])

    start = np.array([0.0, np.log(target.mean() / (1 - target.mean()))])
    slope, offset = minimize(loss, start, jac=True, method="BFGS").x
    return Calibration(float(slope), float(offset))


def ndcg_at_k(grades: ArrayLike, ideal: ArrayLike) -> Gains:
    """Compute nDCG as trec_eval does (``ndcg_cut``): linear gains, discount log2(rank + 1).

    grades: (..., k) gains in rank order, 0 past the end of a short list. ideal: (..., k) the best gains, best first;
    leading axes broadcast. NaN and negative grades count as 0. Returns (...); 0 where the ideal is all zero.
    Source: Järvelin and Kekäläinen (2002), "Cumulated gain-based evaluation of IR techniques".
    """
    actual, best = np.broadcast_arrays(_dcg(grades), _dcg(ideal))
    return np.asarray(np.divide(actual, best, out=np.zeros(best.shape), where=best > 0))


def best_gains(gains: ArrayLike, k: int) -> Gains:
    """Return the k highest gains of each row, best first: (..., m) -> (..., k), padded with 0 where m < k."""
    ordered = -np.sort(-np.fmax(np.asarray(gains, dtype=np.float64), 0.0), axis=-1)[..., :k]
    missing = k - ordered.shape[-1]
    return np.pad(ordered, [(0, 0)] * (ordered.ndim - 1) + [(0, missing)])


def ranking_ndcg(listed: ArrayLike, pool: ArrayLike, k: int = 10, ideal: Ideal = "pooled") -> Gains:
    """nDCG@k of rankings by their gains.

    listed: (..., depth) gains in rank order. pool: (..., m) gains of every document known for the query; leading axes
    broadcast against those of ``listed``. ``ideal`` "pooled" takes the best k of the pool, "list" the best k of what
    is listed (then ``pool`` is not read). Returns (...). Raises ConfigError on another ideal.
    """
    if ideal not in get_args(Ideal):
        raise ConfigError(f"unknown ideal {ideal!r}: {nearest(str(ideal), get_args(Ideal))}")
    gains = np.asarray(listed, dtype=np.float64)
    top = gains[..., :k]
    top = np.pad(top, [(0, 0)] * (top.ndim - 1) + [(0, k - top.shape[-1])])
    return ndcg_at_k(top, best_gains(pool if ideal == "pooled" else gains, k))


def _dcg(grades: ArrayLike) -> Gains:
    gains = np.fmax(np.asarray(grades, dtype=np.float64), 0.0)  # fmax: a NaN counts as 0 too
    discounts = 1.0 / np.log2(np.arange(2, gains.shape[-1] + 2))
    return np.asarray(gains @ discounts)


def _finite(scores: ArrayLike) -> NDArray[np.float64]:
    raw = np.asarray(scores, dtype=np.float64)
    if np.isinf(raw).any():
        row = int(np.argwhere(np.isinf(raw))[0][0])
        raise ModelError(f"the reward model gave an infinite score for query {row} of the batch; scores must be finite")
    return raw


def _z_scores(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Z-scores within each row over what is not NaN; 0 throughout a row without spread."""
    known = ~np.isnan(raw)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    mean = np.where(known, raw, 0.0).sum(axis=1, keepdims=True) / count
    centred = np.where(known, raw - mean, 0.0)
    spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
    # Rounding of the mean leaves a spread of this order in a row of equal scores.
    meaningful = spread > 1e-9 * np.maximum(np.abs(mean), 1e-30)
    return np.asarray(np.divide(centred, spread, out=np.zeros_like(centred), where=meaningful))
