"""The search graphs of several collections as one, so that one policy can be trained on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from searchrl.env.graph import SearchGraph
from searchrl.errors import ConfigError
from searchrl.files import Array
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray

SIZES = "sizes"


def join(graphs: Sequence[SearchGraph]) -> SearchGraph:
    """Put the queries of several graphs one after another. A document is still an index into its own corpus.

    Raises ConfigError unless all were played by the same rules with the same observation and share a source of gains.
    """
    first = graphs[0]
    if len(graphs) == 1:
        return first
    for other in graphs[1:]:
        if other.tree != first.tree or other.feature_names != first.feature_names or other.dim != first.dim:
            raise ConfigError("search graphs of different games cannot be joined")
    sources = [source for source in first.gains if all(source in graph.gains for graph in graphs)]
    if not sources:
        raise ConfigError("these collections have no source of gains in common; use --reward lm")
    width = max(graph.pool.shape[1] for graph in graphs)

    def rows(name: str) -> Array:
        return np.concatenate([getattr(graph, name) for graph in graphs])

    return replace(
        first,
        query_ids=[query_id for graph in graphs for query_id in graph.query_ids],
        texts=[[text for graph in graphs for text in graph.texts[slot]] for slot in range(len(first.texts))],
        features=rows("features"),
        query_vectors=rows("query_vectors"),
        result_vectors=rows("result_vectors"),
        searched=rows("searched"),
        searched_scores=rows("searched_scores"),
        final=rows("final"),
        final_scores=rows("final_scores"),
        reward_calls=rows("reward_calls"),
        gains={source: np.concatenate([graph.gains[source] for graph in graphs]) for source in sources},
        pool=np.concatenate([_padded(graph.pool, width, NO_DOCUMENT) for graph in graphs]),
        pool_scores=np.concatenate([_padded(graph.pool_scores, width, np.nan) for graph in graphs]),
        meta={SIZES: [len(graph) for graph in graphs]},
    )


def query_weights(graph: SearchGraph) -> FloatArray:
    """(n,) share of each query in a mean over collections, in which each collection counts the same; sums to 1."""
    sizes = graph.meta.get(SIZES, [len(graph)])
    return np.repeat([1.0 / (len(sizes) * size) for size in sizes], sizes).astype(np.float32)


def _padded(array: Array, width: int, value: float) -> Array:
    return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=value)
