"""The named scalars of an observation: what a person would look at to decide whether another search pays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from searchrl.retrieval.ranking import FloatArray, IntArray, Queries, Ranking
from searchrl.retrieval.retriever import Retriever

TOP = 10

RANKING_FEATURES = (
    "level_top",  # cosine of the original query with the last ranking's first document
    "level_mean",  # the same, mean over the top 10
    "level_gap",  # first minus second
    "level_drop",  # first minus tenth
    "level_spread",  # standard deviation over the top 10
    "coherence_5",  # length of the mean vector of the top 5: 1 when they say the same
    "coherence_10",
    "overlap_first",  # share of the top 10 that the first ranking's top 10 had
    "overlap_previous",  # and the previous ranking's
    "novelty",  # share of the top 10 that no earlier top 10 had
    "lexical_support",  # mean BM25 of the top 10 for the original words, as a share of the best BM25 there is
)
PROBE_FEATURES = (
    "agreement",  # share of documents that the dense and the lexical top 10 of the original query have in common
    "agreement_top",  # 1 if the dense first document is in the lexical top 10
    "agreement_top_lexical",  # 1 if the lexical first document is in the dense top 10
    "lexical_top",  # best BM25, by word of the query
    "lexical_gap",  # first minus second BM25, as a share of the first
    "query_words",  # log(1 + words that the corpus knows)
)
QUERY_FEATURES = (
    "drift",  # 1 - cosine of current and original query
    "lexical_share",  # of the current query
    "step",  # steps taken, as a share of max_steps
    "searched",  # 1 if the current query has been searched
)
REWARD_FEATURES = (
    "reward_mean",  # reward model's mean over the top 10 found so far, as fused
    "reward_max",
    "reward_change",  # mean minus that of the first ranking
)


@dataclass(frozen=True)
class Probe:
    """Dense and lexical evidence for the original query, taken once at the first search."""

    features: FloatArray
    """(n, len(PROBE_FEATURES))"""
    best_bm25: FloatArray
    """(n,) BM25 of the best lexical document, 0 when no word is known."""


def probe(retriever: Retriever, original: Queries, exclude: IntArray | None) -> Probe:
    """Compare the dense with the lexical top 10 of the original query."""
    n = len(original)
    dense = retriever.search(_with_share(original, 0.0), exclude).documents[:, :TOP]
    lexical = retriever.search(_with_share(original, 1.0), exclude)
    words = lexical.documents[:, :TOP]
    best = np.where(np.isfinite(lexical.scores[:, 0]), lexical.scores[:, 0], 0.0)
    second = lexical.scores[:, 1] if lexical.scores.shape[1] > 1 else np.full(n, -np.inf)
    second = np.where(np.isfinite(second), second, 0.0)
    count = np.asarray(original.terms.sum(axis=1)).ravel()
    both = _member(dense, words)
    features = [
        both.mean(axis=1),
        both[:, 0],
        _member(words, dense)[:, 0],
        best / np.maximum(count, 1.0),
        (best - second) / np.maximum(best, 1e-6),
        np.log1p(count),
    ]
    return Probe(np.stack(features, axis=1).astype(np.float32), best.astype(np.float32))


def ranking_features(
    retriever: Retriever, original: Queries, rankings: list[Ranking], evidence: Probe
) -> tuple[FloatArray, FloatArray]:
    """Features of the last ranking, (n, len(RANKING_FEATURES)), and its result embedding, (n, dim) unit rows.

    The embedding is the mean of the top 10 documents' vectors, read from the index, discounted by rank as nDCG does.
    """
    top = [r.documents[:, :TOP] for r in rankings]
    last = top[-1]
    present = last >= 0
    vectors = np.where(present[:, :, None], retriever.dense.vectors[np.maximum(last, 0)], 0.0)
    level = np.einsum("nkd,nd->nk", vectors, original.vectors)
    mean, spread = _masked_moments(level, present)
    at_end = np.take_along_axis(level, np.maximum(present.sum(axis=1) - 1, 0)[:, None], axis=1)[:, 0]
    second = np.where(present[:, 1], level[:, 1], level[:, 0]) if last.shape[1] > 1 else level[:, 0]
    earlier = np.concatenate(top[:-1], axis=1) if len(top) > 1 else np.full_like(last[:, :1], -2)
    support = retriever.lexical.pair_scores(original.terms, last).mean(axis=1) / np.maximum(evidence.best_bm25, 1e-6)
    features = [
        level[:, 0],
        mean,
        level[:, 0] - second,
        level[:, 0] - at_end,
        spread,
        _coherence(vectors[:, :5], present[:, :5]),
        _coherence(vectors, present),
        _member(last, top[0]).mean(axis=1),
        _member(last, top[-2] if len(top) > 1 else top[0]).mean(axis=1),
        (present - _member(last, earlier)).mean(axis=1),
        support,
    ]
    discount = 1.0 / np.log2(np.arange(2, last.shape[1] + 2, dtype=np.float32))
    embedding = np.einsum("nkd,k->nd", vectors, discount)
    embedding /= np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
    stacked: FloatArray = np.stack(features, axis=1).astype(np.float32)
    return stacked, embedding.astype(np.float32)


def query_features(original: Queries, current: Queries, step: int, max_steps: int, searched: bool) -> FloatArray:
    """Features of the current query, (n, len(QUERY_FEATURES))."""
    n = len(original)
    drift = 1.0 - np.einsum("nd,nd->n", original.vectors, current.vectors)
    constant = [np.full(n, step / max_steps), np.full(n, float(searched))]
    return np.stack([drift, current.lexical, *constant], axis=1).astype(np.float32)


def reward_features(first: FloatArray, last: FloatArray) -> FloatArray:
    """Features from the reward model's scores of the top found first and by now, each (n, k) with NaN for none."""
    mean_first, _ = _masked_moments(np.nan_to_num(first), ~np.isnan(first))
    mean_last, _ = _masked_moments(np.nan_to_num(last), ~np.isnan(last))
    best = np.where(np.isnan(last).all(axis=1), 0.0, np.where(np.isnan(last), -np.inf, last).max(axis=1))
    stacked: FloatArray = np.stack([mean_last, best, mean_last - mean_first], axis=1).astype(np.float32)
    return stacked


def _with_share(queries: Queries, share: float) -> Queries:
    return Queries(queries.texts, queries.vectors, queries.terms, np.full(len(queries), share, dtype=np.float32))


def _member(documents: IntArray, others: IntArray) -> FloatArray:
    """(n, k) float: 1 where a document of a row is among the row's others."""
    found = (documents[:, :, None] == others[:, None, :]).any(axis=2) & (documents >= 0)
    return np.asarray(found, dtype=np.float32)


def _masked_moments(
    values: FloatArray, present: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> tuple[FloatArray, FloatArray]:
    count = np.maximum(present.sum(axis=1), 1)
    mean = np.where(present, values, 0.0).sum(axis=1) / count
    variance = np.where(present, (values - mean[:, None]) ** 2, 0.0).sum(axis=1) / count
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def _coherence(vectors: FloatArray, present: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> FloatArray:
    count = np.maximum(present.sum(axis=1), 1)[:, None]
    return np.asarray(np.linalg.norm(vectors.sum(axis=1) / count, axis=1), dtype=np.float32)
