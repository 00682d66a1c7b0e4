"""All ways to search side by side on the same queries: what each does on a search graph, measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from searchrl.agent import strategies
from searchrl.data.dataset import Corpus, QuerySet
from searchrl.device import rng
from searchrl.env.graph import SearchGraph
from searchrl.env.tree import N_ACTIONS, ROOT, Action
from searchrl.evaluation.comparison import ComparisonTable, MethodResult
from searchrl.evaluation.measures import MEASURES, evaluate_ranking
from searchrl.retrieval.ranking import Ranking
from searchrl.retrieval.retriever import LEXICAL_SHARE, Retriever
from searchrl.reward.gain import own_document

REWARD_MEASURE = "reward nDCG@10"


def compare_methods(
    graph: SearchGraph,
    queries: QuerySet,
    corpus: Corpus,
    retriever: Retriever,
    agent: NDArray[np.int64],
    best_fixed: Sequence[int],
    *,
    source: str,
    seed: int,
    measures: Sequence[str] = MEASURES,
) -> ComparisonTable:
    """Measure every method on one graph: plain searches of each kind, fixed strategies, the agent, the oracle.

    agent: (n,) states in which the agent's episodes ended. best_fixed: the actions that were best on dev queries.
    source: the gains by which the oracle chooses. measures: columns, the first of which is tested; any that
    ``measures.evaluate`` knows. Without human judgments all is by the reward model.
    """
    results = []
    if queries.judged:
        own = own_document(queries, corpus)
        vectors = np.asarray(graph.query_vectors[:, graph.tree.query_slot[ROOT]])  # spares loading the encoder
        for name, share in [*LEXICAL_SHARE.items(), ("bm25", 1.0)]:
            ranking = retriever.search(retriever.queries(queries.texts, share, vectors), own)
            results.append(reference_result(name, ranking, queries, corpus, measures))
    ends = fixed_ends(graph, best_fixed, rng(seed, "random strategy"))
    ends |= {"rl_agent": agent, "oracle": strategies.oracle(graph, source)}
    results += [method_result(name, graph, end, queries, corpus, measures=measures) for name, end in ends.items()]
    return ComparisonTable.build(results, measure=measures[0] if queries.judged else REWARD_MEASURE, seed=seed)


def human_first(graph: SearchGraph, source: str) -> str:
    """By which gains fixed strategies are chosen: people's where they judged, else ``source``, what pays the reward."""
    return "qrels" if "qrels" in graph.gains else source


def method_result(
    name: str,
    graph: SearchGraph,
    ends: NDArray[np.int64],
    queries: QuerySet,
    corpus: Corpus,
    steps: NDArray[np.int64] | None = None,
    measures: Sequence[str] = MEASURES,
) -> MethodResult:
    """Measure episodes that ended in the given states, one a query.

    ``steps`` (n,): steps taken where they are more than the legal path (mask off). Without human judgments only the
    reward model's view is measured.
    """
    tree = graph.tree
    paths = [_with_end(tree.actions_to(int(node)), tree.max_steps) for node in ends]
    counts = np.stack([np.bincount(path, minlength=N_ACTIONS) for path in paths])
    ranking = graph.final_ranking(ends)
    metrics: dict[str, NDArray[np.float64]] = {}
    if queries.judged:
        metrics |= evaluate_ranking(ranking, queries, corpus.ids, measures)
    if "reward" in graph.gains:
        metrics[REWARD_MEASURE] = graph.state_gains("reward")[np.arange(len(graph)), ends].astype(np.float64)
    return MethodResult(
        name=name,
        metrics=metrics,
        steps=np.array([len(p) for p in paths], dtype=np.float64) if steps is None else steps.astype(np.float64),
        searches=tree.searches[ends].astype(np.float64),
        lm_calls=graph.lm_calls(ends).astype(np.float64),
        action_fractions=counts.sum(axis=0) / counts.sum(),
        ranking=ranking,
        actions=[[int(a) for a in path] for path in paths],
    )


def reference_result(
    name: str, ranking: Ranking, queries: QuerySet, corpus: Corpus, measures: Sequence[str] = MEASURES
) -> MethodResult:
    """Measure one plain search outside the game (BM25, say)."""
    n = len(queries)
    return MethodResult(
        name=name,
        metrics=dict(evaluate_ranking(ranking, queries, corpus.ids, measures)),
        steps=np.ones(n),
        searches=np.ones(n),
        lm_calls=np.zeros(n),
        action_fractions=np.eye(N_ACTIONS)[Action.SEARCH],
        ranking=ranking,
        actions=[[int(Action.SEARCH)]] * n,
    )


def fixed_ends(
    graph: SearchGraph, best_fixed: Sequence[int], generator: np.random.Generator
) -> dict[str, NDArray[np.int64]]:
    """End states of the strategies that need no training, by name."""
    best = strategies.follow(graph.tree, tuple(Action(a) for a in best_fixed))
    return {
        "single_pass": strategies.single_pass(graph),
        "heuristic": strategies.heuristic(graph),
        "random": strategies.random_actions(graph, generator),
        "best_fixed": np.full(len(graph), best, dtype=np.int64),
    }


def _with_end(path: list[Action], max_steps: int) -> list[Action]:
    """The path, with the TERMINATE that ended it unless the episode was truncated."""
    return [*path, Action.TERMINATE] if len(path) < max_steps else path
