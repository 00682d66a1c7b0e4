"""Fixed ways to spend the reward model's judgments, to compare the agent with: each judges as many documents as asked.

``hybrid_rerank`` judges the top of the hybrid ranking. ``adaptive_rerank`` is GAR (MacAvaney, Tonellotto and Macdonald
2022, "Adaptive Re-Ranking with a Corpus Graph"): by turns it judges the next documents of the dense ranking and the
nearest neighbours of the best judged. ``dynamic_hybrid`` is DAT (Hsu and Tzeng 2025, "Dynamic Alpha Tuning for Hybrid
Retrieval"): what the reward model says of the first document of either leg sets their weights, for each query; then
the top of the mixture is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from searchrl.env.game import Game
from searchrl.retrieval.fusion import mix
from searchrl.retrieval.index import Index
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, FloatArray, IntArray, Ranking
from searchrl.retrieval.retriever import LEXICAL_SHARE
from searchrl.reward.gain import calibrate
from searchrl.reward.reward_model import JudgedPool, RewardModel

TURN = 5
"""Documents that GAR judges at a time."""
NEIGHBOURS = 8
"""Of a judged document, by the cosine of their vectors, that GAR may judge next."""


@dataclass(frozen=True)
class Reranked:
    """What one method found for n queries, before and after the reward model is mixed in."""

    ranking: Ranking
    judged: IntArray
    """(n,) documents that were judged."""


def rerankers(
    game: Game, texts: Sequence[str], vectors: FloatArray, own: IntArray, budget: int, share: float
) -> Iterator[tuple[str, Reranked]]:
    """Each method by its name, on n queries.

    vectors: (n, dim) of the queries. own: (n,) each query's own document, -1 for none. budget: documents that may be
    judged for a query. share: the reward model's in the final ranking.
    """
    assert game.reward_model is not None
    reward, pool = game.reward_model, JudgedPool(game.reward_model, game.corpus, texts)

    def search(lexical: float) -> Ranking:
        return game.retriever.search(game.retriever.queries(texts, lexical, vectors), own)

    def reranked(found: Ranking, documents: IntArray) -> Reranked:
        pool.ensure(documents)
        judged = (found.documents[:, :, None] == documents[:, None, :]).any(axis=2)
        scores = np.where(judged, pool.lookup(found.documents), np.nan).astype(np.float32)
        return Reranked(mix(found, scores, share), _count(documents))

    hybrid = search(LEXICAL_SHARE["hybrid"])
    yield "hybrid_rerank", reranked(hybrid, hybrid.documents[:, :budget])
    dense, words = search(LEXICAL_SHARE["dense"]), search(1.0)
    yield "adaptive_rerank", reranked(*_adaptive(game, pool, dense, vectors, own, budget))
    first = np.concatenate([dense.documents[:, :1], words.documents[:, :1]], axis=1)
    pool.ensure(first)
    weighted = replace(game.retriever.queries(texts, 0.0, vectors), lexical=_lexical_share(reward, pool.lookup(first)))
    mixed = game.retriever.search(weighted, own)
    ahead = (mixed.documents[:, :, None] == first[:, None, :]).any(axis=2)
    places = np.cumsum(~ahead & (mixed.documents != NO_DOCUMENT), axis=1)
    within = np.where(ahead | (places <= budget - first.shape[1]), mixed.documents, NO_DOCUMENT)
    yield "dynamic_hybrid", reranked(mixed, np.concatenate([within, _only_new(first, within)], axis=1))


def _lexical_share(reward: RewardModel, scores: FloatArray) -> FloatArray:
    """(n,) from the scores (n, 2) of the dense and the lexical leg's first document: one half where neither counts."""
    known = ~np.isnan(scores)
    gains = np.where(known, calibrate(scores, reward.absolute), 0.0)
    total = gains.sum(axis=1)
    return np.where(total > 0, gains[:, 1] / np.where(total > 0, total, 1.0), 0.5).astype(np.float32)


def _only_new(documents: IntArray, others: IntArray) -> IntArray:
    """Documents (n, k) that are not among others (n, m)."""
    return np.where((documents[:, :, None] == others[:, None, :]).any(axis=2), NO_DOCUMENT, documents)


def _count(documents: IntArray) -> IntArray:
    ordered = np.sort(documents, axis=1)
    distinct = np.diff(ordered, axis=1, prepend=NO_DOCUMENT) != 0
    return np.asarray(distinct.sum(axis=1), dtype=np.int32)


def _adaptive(
    game: Game, pool: JudgedPool, dense: Ranking, vectors: FloatArray, own: IntArray, budget: int
) -> tuple[Ranking, IntArray]:
    """GAR: the dense ranking with the neighbours that were judged put in, by cosine; and the judged (n, budget)."""
    n, index = len(dense), game.retriever.index
    judged: list[list[int]] = [[] for _ in range(n)]
    frontier: list[dict[int, float]] = [{} for _ in range(n)]
    turns: tuple[Callable[[int], Sequence[int]], ...] = (
        lambda row: [int(d) for d in dense.documents[row] if d != NO_DOCUMENT],
        lambda row: sorted(frontier[row], key=lambda d: (-frontier[row][d], d)),
    )
    for turn in range(-(-budget // TURN)):
        batch = np.full((n, TURN), NO_DOCUMENT, dtype=DOCUMENT)
        for row in range(n):
            ahead = [*turns[turn % 2](row), *turns[0](row)]  # a frontier too small is filled up
            fresh = [d for d in dict.fromkeys(ahead) if d not in judged[row] and d != own[row]]
            chosen = fresh[: min(TURN, budget - len(judged[row]))]
            batch[row, : len(chosen)] = chosen
            judged[row] += chosen
        pool.ensure(batch)
        scores, found = pool.lookup(batch), np.unique(batch[batch != NO_DOCUMENT])
        near = index.nearest(index.vectors(found), NEIGHBOURS, found).documents
        for row, column in np.argwhere(batch != NO_DOCUMENT):
            score = float(scores[row, column])
            for document in near[np.searchsorted(found, batch[row, column])].tolist():
                frontier[row][document] = max(score, frontier[row].get(document, score))
    documents = np.array([row + [NO_DOCUMENT] * (budget - len(row)) for row in judged], dtype=DOCUMENT)
    return _put_in(dense, _only_new(documents, dense.documents), vectors, index), documents


def _put_in(ranking: Ranking, documents: IntArray, vectors: FloatArray, index: Index) -> Ranking:
    """A dense ranking and further documents (n, k) in one, by their cosine."""
    cosines = np.einsum("nkd,nd->nk", index.vectors(np.maximum(documents, 0)), vectors)
    everything = np.concatenate([ranking.documents, documents], axis=1)
    scores = np.concatenate([ranking.scores, np.where(documents == NO_DOCUMENT, -np.inf, cosines)], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return Ranking(np.take_along_axis(everything, order, axis=1), np.take_along_axis(scores, order, axis=1))
