"""All ways to search side by side on the same queries, retriever, fusion and rerank budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from searchrl.agent import strategies
from searchrl.data.dataset import QuerySet
from searchrl.device import rng
from searchrl.env.graph import SearchGraph
from searchrl.env.tree import ROOT
from searchrl.evaluation.comparison import ComparisonTable
from searchrl.evaluation.methods import REWARD_MEASURE, fixed_ends, method_result, reference_result
from searchrl.experiment.parts import Workbench
from searchrl.retrieval.retriever import LEXICAL_SHARE
from searchrl.reward.gain import own_document


def compare(
    bench: Workbench,
    graph: SearchGraph,
    queries: QuerySet,
    agent: NDArray[np.int64],
    best_fixed: Sequence[int],
    seed: int,
) -> ComparisonTable:
    """Measure every method on one graph: plain searches of each kind, fixed strategies, the agent, the oracle.

    agent: (n,) states in which the agent's episodes ended. best_fixed: the actions that were best on dev queries.
    """
    corpus = bench.dataset.corpus
    results = []
    if queries.judged:
        own = own_document(queries, corpus)
        vectors = np.asarray(graph.query_vectors[:, graph.tree.query_slot[ROOT]])  # spares loading the encoder
        for name, share in [*LEXICAL_SHARE.items(), ("bm25", 1.0)]:
            ranking = bench.retriever.search(bench.retriever.queries(queries.texts, share, vectors), own)
            results.append(reference_result(name, ranking, queries, corpus))
    ends = fixed_ends(graph, best_fixed, rng(seed, "random strategy"))
    ends |= {"rl_agent": agent, "oracle": strategies.oracle(graph, human_first(graph, bench))}
    results += [method_result(name, graph, end, queries, corpus) for name, end in ends.items()]
    measure = "nDCG@10" if queries.judged else REWARD_MEASURE
    return ComparisonTable.build(results, measure=measure, seed=seed)


def human_first(graph: SearchGraph, bench: Workbench) -> str:
    """The source by which fixed strategies are chosen: people where they judged, else what pays the reward."""
    return "qrels" if "qrels" in graph.gains else bench.reward_source
