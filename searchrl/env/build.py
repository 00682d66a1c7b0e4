"""Build a search graph: play every legal sequence of actions, level by level, all queries of a level together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from searchrl.data.dataset import QuerySet
from searchrl.env.game import Game, Situation
from searchrl.env.graph import SearchGraph, fingerprint, load_graph, save_graph
from searchrl.env.scores import ScoreBook
from searchrl.env.tree import build_tree
from searchrl.errors import CacheError
from searchrl.retrieval.ranking import FloatArray, IntArray, Ranking
from searchrl.reward.gain import DEFAULT_CALIBRATION, Calibration, Gains, calibrate, ranking_ndcg
from searchrl.reward.qrels import Judgments, own_document

logger = logging.getLogger(__name__)

GAIN_DEPTH = 10
"""Gains are nDCG@10."""


@dataclass(frozen=True)
class GraphSettings:
    """What shapes a graph besides the game and the queries."""

    calibration: Calibration = DEFAULT_CALIBRATION


def describe(game: Game, queries: QuerySet, settings: GraphSettings) -> dict[str, object]:
    """Everything that shapes the graph of these queries, JSON-able."""
    judged = {q: dict(queries.qrels.get(q, {})) for q in queries.ids}
    calibration = {"slope": settings.calibration.slope, "offset": settings.calibration.offset}
    return {
        "game": game.description,
        "queries": list(zip(queries.ids, queries.texts, strict=True)),
        "qrels": judged,
        "calibration": calibration if game.reward_model else None,
    }


def obtain_graph(
    game: Game,
    queries: QuerySet,
    settings: GraphSettings,
    cache: Path | None,
    on_progress: Callable[[int, int], None] | None = None,
) -> SearchGraph:
    """Load the stored graph of these queries, or build and store it. A damaged one is rebuilt after a log warning."""
    folder = cache / "graphs" / fingerprint(describe(game, queries, settings)) if cache else None
    if folder and folder.exists():
        try:
            return load_graph(folder)
        except CacheError as error:
            logger.warning("The stored graph is damaged and will be rebuilt: %s", error)
    graph = build_graph(game, queries, settings, on_progress)
    if folder:
        save_graph(graph, folder)
        return load_graph(folder)
    return graph


def build_graph(
    game: Game,
    queries: QuerySet,
    settings: GraphSettings,
    on_progress: Callable[[int, int], None] | None = None,
) -> SearchGraph:
    """Play all of it, then have everything that was found judged in one batch. ``on_progress(done, total)`` hears of
    finished states.

    What is slow (encoding, language model calls) is cached below this; a build that was killed starts over and finds
    that work done.
    """
    tree = build_tree(game.rules.max_steps, game.rules.auto_search)
    exclude = own_document(queries, game.corpus)
    situations: list[Situation] = []
    for state in tree.states:
        action = state.action
        at = game.start(queries.texts) if action is None else game.advance(situations[state.parent], action, exclude)
        situations.append(at)
        if on_progress:
            on_progress(len(situations), len(tree))
    book = game.book(queries.texts)
    ends = [situations[node] for node in tree.searched_nodes]
    if book is not None:
        # One batch, so that the language model reads each document once for all queries that met it.
        book.ensure(np.concatenate([at.judged[-1] for at in ends], axis=1))
    finals = [game.final_ranking(at, book) for at in ends]
    currents = [
        situations[int(np.flatnonzero(tree.query_slot == q)[0])].current for q in range(tree.query_slot.max() + 1)
    ]
    pool, pool_scores = book.pools() if book else _empty_pool(len(queries))
    return SearchGraph(
        tree=tree,
        query_ids=list(queries.ids),
        texts=[list(q.texts) for q in currents],
        feature_names=game.feature_names,
        features=np.stack([game.features(at, book) for at in situations], axis=1),
        query_vectors=np.stack([q.vectors for q in currents], axis=1),
        result_vectors=np.stack([at.result for at in ends], axis=1),
        searched=np.stack([at.rankings[-1].documents for at in ends], axis=1),
        searched_scores=np.stack([at.rankings[-1].scores for at in ends], axis=1),
        final=np.stack([r.documents for r in finals], axis=1),
        final_scores=np.stack([r.scores for r in finals], axis=1),
        reward_calls=np.stack([at.reward_calls for at in ends], axis=1),
        reformulation_calls=game.reformulator.lm_calls,
        gains=_gains(game, queries, settings, finals, book),
        pool=pool,
        pool_scores=pool_scores,
        meta={"fingerprint": fingerprint(describe(game, queries, settings))},
    )


def _empty_pool(n: int) -> tuple[IntArray, FloatArray]:
    return np.empty((n, 0), dtype=np.int32), np.empty((n, 0), dtype=np.float32)


def _gains(
    game: Game, queries: QuerySet, settings: GraphSettings, finals: list[Ranking], book: ScoreBook | None
) -> dict[str, FloatArray]:
    gains = {}
    if queries.judged:
        judgments = Judgments(queries, game.corpus)
        gains["qrels"] = np.stack([judgments.gain(r.documents, GAIN_DEPTH) for r in finals], axis=1)
    if book is not None and game.reward_model is not None:
        pool, scores = book.pools()
        worth = calibrate(scores, game.reward_model.absolute, settings.calibration.slope, settings.calibration.offset)
        lists = [gains_in_pool(r.documents[:, :GAIN_DEPTH], pool, worth) for r in finals]
        gains["reward"] = np.stack([ranking_ndcg(g, worth, GAIN_DEPTH, "pooled") for g in lists], axis=1)
        gains["reward_list"] = np.stack([ranking_ndcg(g, worth, GAIN_DEPTH, "list") for g in lists], axis=1)
    return {name: gain.astype(np.float32) for name, gain in gains.items()}


def gains_in_pool(documents: IntArray, pool: IntArray, worth: Gains) -> Gains:
    """Look up the gains of (n, k) documents among each query's pool (n, P); 0 for a document outside it."""
    same = (documents[:, :, None] == pool[:, None, :]) & (documents >= 0)[:, :, None]
    return np.asarray((same * worth[:, None, :]).sum(axis=2))
