"""The named scalars of an observation: what a person would look at to decide whether another search pays.

None has a level of its own in each collection, so that what a policy learns on one holds on another: cosines are
measured from what the query has with documents at random, BM25 against the best there is or could be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from searchrl.errors import ConfigError, nearest
from searchrl.retrieval.fusion import Mask
from searchrl.retrieval.index import pair_scores
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, IntArray, Queries, Ranking, lengths, unit_rows
from searchrl.retrieval.retriever import Retriever
from searchrl.reward.gain import best_gains, ndcg_at_k

TOP = 10

RANKING_FEATURES = (
    "level_top",  # cosine of the original query with the last ranking's first document, in background units
    "level_mean",  # the same, mean over the top 10
    "level_gap",  # first minus second
    "level_drop",  # first minus tenth
    "level_spread",  # standard deviation over the top 10
    "coherence",  # length of the mean vector of the top 10, beyond that of documents at random
    "overlap_first",  # share of the top 10 that the first ranking's top 10 had
    "overlap_previous",  # and the previous ranking's
    "novelty",  # share of the top 10 that no earlier top 10 had
    "lead_kept",  # 1 if the first document is the first ranking's first
    "lexical_support",  # mean BM25 of the top 10 for the original words, as a share of the best BM25 there is
)
PROBE_FEATURES = (  # all of them compare the dense with the lexical ranking of the original query
    "agreement",  # share of documents that the two top 10 have in common
    "agreement_early",  # the same for the top 1, 2 ... 10, averaged with weights that fall by a tenth each
    "agreement_scores",  # correlation of cosine and BM25 over the dense ranking
    "rank_dense_top",  # where the dense first document stands in the lexical ranking: 0 first, 1 not there; log scale
    "rank_lexical_top",  # where the lexical first document stands in the dense ranking
    "support_dense_top",  # BM25 of the dense first document, as a share of the best
    "level_lexical_top",  # cosine of the lexical first minus that of the dense first, in background units
    "level_lexical_mean",  # the same, mean over the top 10
    "lexical_second",  # second, tenth and last BM25 as shares of the first: near 1 where words single nothing out
    "lexical_tenth",
    "lexical_last",
    "cover_lexical",  # best BM25 as a share of what a document full of the query's words would have
    "cover_dense",  # BM25 of the dense first document, likewise
    "idf_max",  # of the query's words: 1 for a word in one document, 0 for a word in all
    "idf_mean",
    "query_words",  # log(1 + words that the corpus knows)
)
QUERY_FEATURES = (
    "drift",  # 1 - cosine of current and original query
    "lexical_share",  # of the current query
    "step",  # steps taken, as a share of max_steps
    "searched",  # 1 if the current query has been searched
    "rewritten",  # 1 if a language model rewrites queries, 0 if relevance feedback alone does
)
REWARD_FEATURES = (
    "reward_mean",  # reward model's mean over the top 10 found so far, as fused
    "reward_max",
    "reward_change",  # mean minus that of the first ranking
    "judged_best",  # highest score of all that was judged so far
    "judged_mass",  # sum of the scores: for probabilities, how many relevant documents were found
    "judged_spread",  # their standard deviation
    "judged_top",  # score of the fused ranking's first document
    "judged_gain",  # best score now, less the best before the last search
    "judged_found",  # sum of the scores of what only the last search found
    "judged_ndcg",  # nDCG@10 that the fused ranking has by the scores: 1 where the reward model would change nothing
    "judged_agreement",  # correlation of the fused scores and the reward model's
)
GROUPS = {
    "level": ("level_top", "level_mean", "level_gap", "level_drop", "level_spread", "coherence"),
    "overlap": ("overlap_first", "overlap_previous", "novelty", "lead_kept"),
    "agreement": PROBE_FEATURES[:5],
    "lexical": ("lexical_support", *PROBE_FEATURES[5:13]),
    "words": PROBE_FEATURES[13:],
    "query": ("drift", "lexical_share", "rewritten"),
    "reward": REWARD_FEATURES,
}
"""What an ablation can hide; what is left says how far the episode is."""


@dataclass(frozen=True)
class Probe:
    """Dense and lexical evidence for the original query, taken once at the first search."""

    features: FloatArray
    """(n, len(PROBE_FEATURES))"""
    best_bm25: FloatArray
    """(n,) BM25 of the best lexical document, 0 when no word is known."""


def probe(retriever: Retriever, original: Queries, exclude: IntArray | None) -> Probe:
    """Compare the dense with the lexical ranking of the original query."""
    by_cosine = retriever.search(_with_share(original, 0.0), exclude)
    by_words = retriever.search(_with_share(original, 1.0), exclude)
    dense, words = by_cosine.documents[:, :TOP], by_words.documents[:, :TOP]
    bm25 = np.where(np.isfinite(by_words.scores), by_words.scores, 0.0)
    best, found = bm25[:, 0], words[:, 0] >= 0
    scale = np.maximum(best, 1e-6)
    crossed = pair_scores(retriever.index, original.terms, by_cosine.documents)
    _, spread = background(retriever, original)
    level, level_words = _levels(retriever, original, dense), _levels(retriever, original, words)
    idf_most, idf_mean, most = _idf(retriever, original)
    features = [
        _member(dense, words).mean(axis=1),
        _early_agreement(dense, words),
        _correlation(by_cosine, crossed),
        _rank(by_cosine.documents[:, 0], by_words.documents),
        _rank(by_words.documents[:, 0], by_cosine.documents),
        crossed[:, 0] / scale,
        np.where(found, level_words[0] - level[0], 0.0) / spread,
        np.where(found, level_words[1] - level[1], 0.0) / spread,
        bm25[:, min(1, bm25.shape[1] - 1)] / scale,
        bm25[:, min(TOP, bm25.shape[1]) - 1] / scale,
        bm25[:, -1] / scale,
        best / most,
        crossed[:, 0] / most,
        idf_most,
        idf_mean,
        np.log1p(np.asarray(original.terms.sum(axis=1)).ravel()),
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
    vectors = np.where(present[:, :, None], retriever.index.vectors(np.maximum(last, 0)), 0.0)
    usual, unit = background(retriever, original)
    cosine = np.einsum("nkd,nd->nk", vectors, original.vectors)
    level = np.where(present, (cosine - usual[:, None]) / unit[:, None], 0.0)
    mean, spread = _masked_moments(level, present)
    at_end = np.take_along_axis(level, np.maximum(present.sum(axis=1) - 1, 0)[:, None], axis=1)[:, 0]
    second = np.where(present[:, 1], level[:, 1], level[:, 0]) if last.shape[1] > 1 else level[:, 0]
    earlier = np.concatenate(top[:-1], axis=1) if len(top) > 1 else np.full_like(last[:, :1], -2)
    support = pair_scores(retriever.index, original.terms, last).mean(axis=1) / np.maximum(evidence.best_bm25, 1e-6)
    features = [
        level[:, 0],
        mean,
        level[:, 0] - second,
        level[:, 0] - at_end,
        spread,
        np.where(
            present[:, 0],
            _coherence(_unit(vectors), present) - retriever.coherence,
            0.0,
        ),
        _member(last, top[0]).mean(axis=1),
        _member(last, top[-2] if len(top) > 1 else top[0]).mean(axis=1),
        (present - _member(last, earlier)).mean(axis=1),
        (last[:, 0] == top[0][:, 0]) & present[:, 0],
        support,
    ]
    discount = 1.0 / np.log2(np.arange(2, last.shape[1] + 2, dtype=np.float32))
    embedding = unit_rows(np.einsum("nkd,k->nd", vectors, discount))
    return np.stack(features, axis=1).astype(np.float32), embedding


def background(retriever: Retriever, original: Queries) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation (n,) of each query's cosine with documents at random."""
    cosines = np.einsum("nd,md->nm", original.vectors, retriever.sample)  # not @: see retrieval/dense.py
    return cosines.mean(axis=1), np.maximum(cosines.std(axis=1), 1e-3)


def query_features(
    original: Queries, current: Queries, step: int, max_steps: int, searched: bool, rewritten: bool
) -> FloatArray:
    """Features of the current query, (n, len(QUERY_FEATURES))."""
    n = len(original)
    drift = 1.0 - np.einsum("nd,nd->n", _unit(original.vectors), _unit(current.vectors))
    constant = [np.full(n, step / max_steps), np.full(n, float(searched)), np.full(n, float(rewritten))]
    return np.stack([drift, current.lexical, *constant], axis=1).astype(np.float32)


def reward_features(
    fused: Ranking, scores: FloatArray, first: FloatArray, known: FloatArray, before: FloatArray
) -> FloatArray:
    """What the reward model says of what was found, (n, len(REWARD_FEATURES)), and where the two disagree.

    scores: (n, depth) of the fused ranking's documents; first: (n, 10) of the top of the first ranking; known: (n, k)
    of every document judged so far, once; before: (n, k') of those judged before the last search. NaN where there is
    none.
    """
    top = scores[:, :TOP]
    mean_first, _ = _masked_moments(np.nan_to_num(first), ~np.isnan(first))
    mean, _ = _masked_moments(np.nan_to_num(top), ~np.isnan(top))
    best, worth = _best(known), np.nan_to_num(known)
    mass, earlier = worth.sum(axis=1), np.nan_to_num(before).sum(axis=1)
    ranked = np.nan_to_num(top)
    both = Ranking(np.where(np.isnan(scores), NO_DOCUMENT, fused.documents), fused.scores)
    features = [
        mean,
        _best(top),
        mean - mean_first,
        best,
        mass,
        _masked_moments(worth, ~np.isnan(known))[1],
        ranked[:, 0],
        best - _best(before),
        mass - earlier,
        ndcg_at_k(ranked, best_gains(worth, ranked.shape[1])),
        _correlation(both, np.nan_to_num(scores)),
    ]
    stacked: FloatArray = np.stack(features, axis=1).astype(np.float32)
    return stacked


def _best(scores: FloatArray) -> FloatArray:
    """Highest score of each row; 0 where there is none."""
    highest = np.where(np.isnan(scores), -np.inf, scores).max(axis=1, initial=-np.inf)
    return np.where(np.isfinite(highest), highest, 0.0).astype(np.float32)


def members(groups: str) -> list[str]:
    """Names of the features in groups joined by commas. Raises ConfigError on a group that is not there."""
    names = [name.strip() for name in groups.split(",") if name.strip()]
    for name in names:
        if name not in GROUPS:
            raise ConfigError(f"`hide` {groups}: there is no group of features {name!r}; {nearest(name, GROUPS)}")
    return [feature for name in names for feature in GROUPS[name]]


def _with_share(queries: Queries, share: float) -> Queries:
    return replace(queries, lexical=np.full(len(queries), share, dtype=np.float32))


def _unit(vectors: FloatArray) -> FloatArray:
    return vectors / lengths(vectors)


def _levels(retriever: Retriever, original: Queries, documents: IntArray) -> tuple[FloatArray, FloatArray]:
    """Cosine of each query with the first and, on average, with all of its own documents (n, k)."""
    vectors = retriever.index.vectors(np.maximum(documents, 0))
    cosine = np.einsum("nkd,nd->nk", vectors, original.vectors)
    return cosine[:, 0], _masked_moments(cosine, documents >= 0)[0]


def _idf(retriever: Retriever, original: Queries) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Highest and mean idf of each query's words, as shares of the highest possible, and the sum of all of them.

    The sum, (n,), is the limit of BM25 for the query.
    """
    terms, count = original.terms, len(retriever.index)
    idf = retriever.index.idf[terms.indices]
    rows = np.repeat(np.arange(len(original)), np.diff(terms.indptr))
    most, total = np.zeros(len(original)), np.zeros(len(original))
    np.maximum.at(most, rows, idf)
    np.add.at(total, rows, idf * terms.data)
    words = np.maximum(np.asarray(terms.sum(axis=1)).ravel(), 1.0)
    highest = np.log1p((count - 0.5) / 1.5)
    return most / highest, total / words / highest, np.maximum(total, 1e-6)


def _early_agreement(documents: IntArray, others: IntArray) -> FloatArray:
    """Rank-biased overlap, p = 0.9, cut at the lists' length (Webber, Moffat and Zobel 2010), (n,)."""
    same = (documents[:, :, None] == others[:, None, :]) & (documents >= 0)[:, :, None]
    k = documents.shape[1]
    common = same.cumsum(axis=1).cumsum(axis=2)[:, np.arange(k), np.arange(k)]
    weight = 0.9 ** np.arange(k)
    return np.asarray((common / np.arange(1, k + 1) * weight).sum(axis=1) / weight.sum(), dtype=np.float32)


def _correlation(ranking: Ranking, others: FloatArray) -> FloatArray:
    """Pearson's correlation of a ranking's scores with others of the same documents, (n,); 0 where one is constant."""
    present = ranking.documents >= 0
    one = np.where(present, ranking.scores - _masked_moments(ranking.scores, present)[0][:, None], 0.0)
    other = np.where(present, others - _masked_moments(others, present)[0][:, None], 0.0)
    size = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.asarray((one * other).sum(axis=1) / np.maximum(size, 1e-6), dtype=np.float32)


def _rank(document: IntArray, documents: IntArray) -> FloatArray:
    """Where each row's document (n,) stands among its others (n, k), from 0, first, to 1, not there; log scale."""
    same = (documents == document[:, None]) & (documents >= 0)
    k = documents.shape[1]
    rank = np.where(same.any(axis=1), same.argmax(axis=1), k)
    return np.asarray(np.log1p(rank) / np.log1p(k), dtype=np.float32)


def _member(documents: IntArray, others: IntArray) -> FloatArray:
    """(n, k) float: 1 where a document of a row is among the row's others."""
    found = (documents[:, :, None] == others[:, None, :]).any(axis=2) & (documents >= 0)
    return np.asarray(found, dtype=np.float32)


def _masked_moments(values: FloatArray, present: Mask) -> tuple[FloatArray, FloatArray]:
    count = np.maximum(present.sum(axis=1), 1)
    mean = np.where(present, values, 0.0).sum(axis=1) / count
    variance = np.where(present, (values - mean[:, None]) ** 2, 0.0).sum(axis=1) / count
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def _coherence(vectors: FloatArray, present: Mask) -> FloatArray:
    count = np.maximum(present.sum(axis=1), 1)[:, None]
    return np.asarray(np.linalg.norm(vectors.sum(axis=1) / count, axis=1), dtype=np.float32)
