"""How good is a judge? A reward model's scores held against human judgments, before anything is trained on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from searchrl.errors import DataError, ModelError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class JudgeQuality:
    """Agreement of scores with human judgments. AUC: .5 is chance; correlations: 0 is. NaN where undefined."""

    auc: float
    """Over all pairs together: does a score mean the same from query to query?"""
    auc_within: float
    """Mean over queries: does the judge tell relevant from not relevant among one query's documents?"""
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


def judge_quality(scores: ArrayLike, grades: ArrayLike) -> JudgeQuality:
    """Measure how well raw scores agree with human grades.

    scores: (n, pool), row i the pool of query i, NaN where the pool is shorter. grades: (n, pool), relevant above 0;
    NaN (not judged) and negative count as 0. A row in which all scores are equal counts as AUC .5 and correlation 0:
    such a judge said nothing. Raises DataError if the shapes differ, ModelError on an infinite score.
    """
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
    return JudgeQuality(
        auc=float(auc(flat, flat_relevant)[0]),
        auc_within=_mean(auc(score[both], relevant[both])),
        kendall=_mean(np.array([_tau_b(score[i, known[i]], grade[i, known[i]]) for i in np.flatnonzero(both)])),
        spearman=_mean(_spearman(score[both], np.where(known, grade, np.nan)[both])),
        queries=int(both.sum()),
        pairs=int(known.sum()),
        relevant=int(relevant.sum()),
    )


def auc(scores: FloatArray, relevant: NDArray[np.bool_]) -> FloatArray:
    """Area under the ROC curve of each row: the chance that a relevant document outscores another, ties half.

    scores: (n, m), NaN for absent. relevant: (n, m). Returns (n,), NaN where a row lacks either kind.
    Source: the rank-sum identity, Hanley and McNeil (1982).
    """
    known = ~np.isnan(scores)
    positives = (relevant & known).sum(axis=1).astype(np.float64)
    negatives = known.sum(axis=1) - positives
    rank_sum = np.where(relevant & known, _ranks(scores), 0.0).sum(axis=1)
    above = rank_sum - positives * (positives + 1) / 2
    contrasts = positives * negatives
    return np.asarray(np.divide(above, contrasts, out=np.full_like(above, np.nan), where=contrasts > 0))


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks from 1 within each row, ties averaged, NaN for NaN."""
    from scipy.stats import rankdata

    if not values.size:
        return values
    absent = np.isnan(values)
    ranks = np.asarray(rankdata(np.where(absent, np.inf, values), axis=1), dtype=np.float64)  # inf: past all others
    return np.where(absent, np.nan, ranks)


def _spearman(scores: FloatArray, grades: FloatArray) -> FloatArray:
    """Spearman's rho of each row: Pearson's correlation of the ranks."""
    middle = ((~np.isnan(scores)).sum(axis=1, keepdims=True) + 1) / 2  # the mean of ranks 1 to m
    x, y = np.nan_to_num(_ranks(scores) - middle), np.nan_to_num(_ranks(grades) - middle)
    spread = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return np.asarray(np.divide((x * y).sum(axis=1), spread, out=np.zeros_like(spread), where=spread > 0))


def _tau_b(scores: FloatArray, grades: FloatArray) -> float:
    """Kendall's tau-b, as the cosine between the signs of all pairwise differences (Kendall 1945)."""
    x, y = (np.sign(v[:, None] - v[None, :]) for v in (scores, grades))
    spread = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    return float((x * y).sum()) / spread if spread else 0.0


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if values.size else float("nan")
