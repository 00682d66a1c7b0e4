"""How good is a reward model? Its scores held against human judgments, before anything is trained on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from searchrl.errors import DataError, ModelError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RewardQuality:
    """Agreement of scores with human judgments. AUC: .5 is chance; correlations: 0 is. NaN where undefined."""

    auc: float
    """Over all pairs together: does a score mean the same from query to query?"""
    auc_within: float
    """Mean over queries: does the model tell relevant from not relevant among one query's documents?"""
    kendall: float
    """Mean over queries of Kendall's tau-b between scores and grades."""
    spearman: float
    """Mean over queries of Spearman's rank correlation between scores and grades."""
    queries: int
    """Queries with both relevant and other documents among the scored; the means are over these."""
    pairs: int
    """Scored (query, document) pairs."""
    relevant: int
    """Those of the pairs that humans judged relevant."""

    def __str__(self) -> str:
        counts = f"{self.queries} queries, {self.pairs} pairs, {self.relevant} of them relevant"
        if math.isnan(self.auc):
            return f"unknown: the judgments do not tell the scored documents apart ({counts})"
        overall = f"AUC {self.auc:.3f} over all pairs"
        if not self.queries:
            return f"{overall}; undefined within queries ({counts})"
        within = f"{self.auc_within:.3f} within a query, tau-b {self.kendall:.3f}, Spearman {self.spearman:.3f}"
        return f"{overall}, {within} ({counts})"


def reward_quality(scores: ArrayLike, grades: ArrayLike) -> RewardQuality:
    """Measure how well raw scores agree with human grades.

    scores: (n, pool), row i the pool of query i, NaN where the pool is shorter. grades: (n, pool), relevant above 0;
    NaN (not judged) and negative count as 0. A row in which all scores are equal counts as AUC .5 and correlation 0:
    such a model said nothing. Raises DataError if the shapes differ, ModelError on an infinite score.
    """
    from scipy import stats

    score = np.asarray(scores, dtype=np.float64)
    grade = np.fmax(np.asarray(grades, dtype=np.float64), 0.0)
    if score.ndim != 2 or score.shape != grade.shape:
        raise DataError(f"scores of shape {score.shape} and grades of shape {grade.shape}: need two (queries, pool)")
    if np.isinf(score).any():
        raise ModelError("the reward model gave an infinite score; scores must be finite")
    known = ~np.isnan(score)
    relevant = known & (grade > 0)
    both = relevant.any(axis=1) & (known & ~relevant).any(axis=1)
    flat, flat_relevant = score[known][None], relevant[known][None]
    rows = [(score[i, known[i]], grade[i, known[i]]) for i in np.flatnonzero(both)]
    varied = [np.ptp(s) > 0 for s, _ in rows]
    taus = [stats.kendalltau(s, g).statistic if v else 0.0 for (s, g), v in zip(rows, varied, strict=True)]
    rhos = [stats.spearmanr(s, g).statistic if v else 0.0 for (s, g), v in zip(rows, varied, strict=True)]
    return RewardQuality(
        auc=float(auc(flat, flat_relevant)[0]),
        auc_within=_mean(auc(score[both], relevant[both])),
        kendall=_mean(taus),
        spearman=_mean(rhos),
        queries=int(both.sum()),
        pairs=int(known.sum()),
        relevant=int(relevant.sum()),
    )


def auc(scores: FloatArray, relevant: NDArray[np.bool_]) -> FloatArray:
    """Area under the ROC curve of each row: the chance that a relevant document outscores another, ties half.

    scores: (n, m), NaN for absent. relevant: (n, m). Returns (n,), NaN where a row lacks either kind.
    Source: the rank-sum identity, Hanley and McNeil (1982).
    """
    from scipy.stats import rankdata

    known = ~np.isnan(scores)
    positives = (relevant & known).sum(axis=1).astype(np.float64)
    contrasts = positives * (known.sum(axis=1) - positives)
    ranks = rankdata(np.where(known, scores, np.inf), axis=1) if scores.size else scores  # inf: past all others
    rank_sum = np.where(relevant & known, ranks, 0.0).sum(axis=1)
    above = rank_sum - positives * (positives + 1) / 2
    return np.asarray(np.divide(above, contrasts, out=np.full_like(above, np.nan), where=contrasts > 0))


def _mean(values: ArrayLike) -> float:
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()) if array.size else float("nan")
