"""From scores to what a ranking is worth: a reward model's become gains in [0, 1], gains and human grades become nDCG.

A reward model whose scores are not absolute (a likelihood, say) has no scale of its own, so its scores are compared
within the query's pool, every document known for the query. The ideal ranking is taken over that same pool. An ideal
taken from the list itself, which reproduces published tables, gives 1.0 to a list of equally bad documents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.errors import ModelError
from searchrl.retrieval.fusion import z_scores
from searchrl.retrieval.ranking import IntArray

Gains = NDArray[np.float64]


SLOPE, OFFSET = 1.0, -1.5
"""The logistic map from a z-score within the query's pool to a gain: ``1 / (1 + exp(-(SLOPE * z + OFFSET)))``.

They stand in for human judgments where there are none to fit on: a document of average score gains .18, one two
standard deviations above it .62, because most of what is retrieved is not relevant.
"""


def calibrate(scores: ArrayLike, absolute: bool) -> Gains:
    """Turn raw reward model scores into gains.

    scores: (n, pool), row i the pool of query i, NaN where the pool is shorter. ``absolute`` scores are clipped to
    [0, 1]; others are z-scored within their row (all equal where the row has no spread) and mapped as ``SLOPE`` says.
    Returns (n, pool) float64 gains in [0, 1]; 0 where there is no document. Raises ModelError on an infinite score.
    """
    raw = np.asarray(scores, dtype=np.float64)
    if np.isinf(raw).any():
        row = int(np.argwhere(np.isinf(raw))[0][0])
        raise ModelError(f"the reward model gave an infinite score for query {row} of the batch; scores must be finite")
    if absolute:
        return np.clip(np.nan_to_num(raw), 0.0, 1.0)
    from scipy.special import expit

    return np.where(np.isnan(raw), 0.0, expit(SLOPE * z_scores(raw, ~np.isnan(raw)) + OFFSET))


def ndcg_at_k(grades: ArrayLike, ideal: ArrayLike) -> Gains:
    """Compute nDCG as trec_eval does (``ndcg_cut``): linear gains, discount log2(rank + 1).

    grades: (..., depth) gains in rank order. ideal: (..., k) the best gains, best first; leading axes broadcast. NaN
    and negative grades count as 0. Returns (...); 0 where the ideal is all zero.
    Source: Järvelin and Kekäläinen (2002), "Cumulated gain-based evaluation of IR techniques".
    """
    actual, best = np.broadcast_arrays(_dcg(grades), _dcg(ideal))
    return np.asarray(np.divide(actual, best, out=np.zeros(best.shape), where=best > 0))


def best_gains(gains: ArrayLike, k: int) -> Gains:
    """Return the k highest gains of each row, best first: (..., m) -> (..., k), padded with 0 where m < k."""
    ordered = -np.sort(-np.fmax(np.asarray(gains, dtype=np.float64), 0.0), axis=-1)[..., :k]
    missing = k - ordered.shape[-1]
    return np.pad(ordered, [(0, 0)] * (ordered.ndim - 1) + [(0, missing)])


def ranking_ndcg(listed: ArrayLike, pool: ArrayLike, k: int = 10) -> Gains:
    """nDCG@k of rankings by their gains.

    listed: (..., depth) gains in rank order. pool: (..., m) gains of every document known for the query, of which the
    best k are the ideal; leading axes broadcast against those of ``listed``. Returns (...).
    """
    return ndcg_at_k(np.asarray(listed, dtype=np.float64)[..., :k], best_gains(pool, k))


class Judgments:
    """Human judgments as arrays: grades of n queries' documents."""

    def __init__(self, queries: QuerySet, corpus: Corpus) -> None:
        from scipy import sparse

        rows, columns, values = [], [], []
        for row, query_id in enumerate(queries.ids):
            for doc_id, grade in queries.qrels.get(query_id, {}).items():
                if grade > 0 and doc_id in corpus.position:
                    rows.append(row)
                    columns.append(corpus.position[doc_id])
                    values.append(grade)
        shape = (len(queries), len(corpus))
        self._grades: Any = sparse.csr_matrix((np.array(values, dtype=np.float32), (rows, columns)), shape=shape)

    def grades(self, documents: IntArray) -> Gains:
        """Grades of (n, k) documents; 0 where unjudged or no document."""
        rows = np.repeat(np.arange(len(documents)), documents.shape[1])
        found = np.asarray(self._grades[rows, np.maximum(documents, 0).ravel()]).reshape(documents.shape)
        return np.where(documents >= 0, found, 0.0).astype(np.float64)

    def gain(self, documents: IntArray, k: int = 10) -> Gains:
        """nDCG@k of (n, depth) rankings, the ideal taken over all judgments, as trec_eval computes it. Shape (n,)."""
        counts = np.diff(self._grades.indptr)
        known = np.zeros((self._grades.shape[0], max(1, int(counts.max(initial=0)))))
        known[np.arange(known.shape[1])[None, :] < counts[:, None]] = self._grades.data
        return ndcg_at_k(self.grades(documents[:, :k]), best_gains(known, k))


def _dcg(grades: ArrayLike) -> Gains:
    gains = np.fmax(np.asarray(grades, dtype=np.float64), 0.0)  # fmax: a NaN counts as 0 too
    discounts = 1.0 / np.log2(np.arange(2, gains.shape[-1] + 2))
    return np.asarray(gains @ discounts)
