"""The search graph: everything an episode over these queries can meet, computed once, as arrays; and episodes over it.

One row a query; states and slots as ``tree.py`` numbers them. Vectors and rankings are stored once a query or search
(slot), not once a state. ``BatchedSearchEnv`` plays many episodes at once on ``GraphTensors``, one row of each array an
episode: no models, no Python a row.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchrl.env.tree import ROOT, Action, Tree, build_tree
from searchrl.errors import ConfigError, nearest
from searchrl.files import Array, load_arrays
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, IntArray, Ranking
from searchrl.threads import lazy

VERSION = 7
"""Raised whenever a stored graph would no longer be what today's code computes."""

SIZES = "sizes"
"""Under this name ``meta`` has the number of queries of each graph that was joined."""


@dataclass(frozen=True)
class SearchGraph:
    """Arrays over n queries, S states, Q queries in a tree (slots), R searches in a tree (slots), E ends of it."""

    tree: Tree
    query_ids: Sequence[str]
    texts: Sequence[Sequence[str]]
    """(Q, n) the current query's words in each query slot."""
    feature_names: tuple[str, ...]
    features: FloatArray
    """(n, S, F) of all states that are no ends."""
    query_vectors: FloatArray
    """(n, Q, dim)"""
    result_vectors: FloatArray
    """(n, R, dim)"""
    searched: IntArray
    """(n, R, depth) documents of each search."""
    final: IntArray
    """(n, E, depth) documents of the final ranking, were the episode to end here."""
    final_scores: FloatArray
    """(n, E, depth)"""
    reward_calls: IntArray
    """(n, R) pairs that the reward model has scored by then."""
    reformulation_calls: int
    """Language model calls of one reformulation of one query."""
    gains: Mapping[str, FloatArray]
    """reward source -> (n, E) gain of the final ranking: ``qrels``, ``reward`` (pooled ideal), ``reward_list``."""
    pool: IntArray
    """(n, P) every document that the reward model scored for the query, padded with -1; P may be 0."""
    pool_scores: FloatArray
    """(n, P) its raw scores, padded with NaN."""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.query_ids)

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return int(self.query_vectors.shape[2])

    def state_gains(self, source: str) -> FloatArray:
        """(n, S) gain of ending in each state; 0 where nothing has been searched."""
        gains = np.concatenate([np.asarray(self.gains[source]), np.zeros((len(self), 1), dtype=np.float32)], axis=1)
        return np.asarray(gains[:, self.tree.end_slot], dtype=np.float32)

    @lazy
    def judged(self) -> IntArray:
        """(n, S) documents that the reward model has judged by each state; 0 where nothing has been searched."""
        calls = np.concatenate([np.asarray(self.reward_calls), np.zeros((len(self), 1), dtype=np.int32)], axis=1)
        return np.asarray(calls[:, self.tree.search_slot], dtype=np.int32)

    def lm_calls(self, nodes: NDArray[np.int_]) -> IntArray:
        """(n,) language model calls up to one state of each query: reformulations and pairs scored."""
        scored = self.judged[np.arange(len(self)), nodes]
        return np.asarray(scored + self.tree.reformulations[nodes] * self.reformulation_calls, dtype=np.int32)

    def final_ranking(self, nodes: NDArray[np.int_]) -> Ranking:
        """The final rankings of episodes that ended in these states, one a query; empty where nothing was searched."""
        slots = self.tree.end_slot[nodes]
        rows = np.arange(len(self))
        found = (slots >= 0)[:, None]
        documents = np.where(found, self.final[rows, np.maximum(slots, 0)], -1)
        scores = np.where(found, self.final_scores[rows, np.maximum(slots, 0)], -np.inf)
        return Ranking(documents, scores.astype(np.float32))


_ARRAYS = (
    "features",
    "query_vectors",
    "result_vectors",
    "searched",
    "final",
    "final_scores",
    "reward_calls",
)
_POOL = ("pool", "pool_scores")


def fingerprint(description: Mapping[str, Any]) -> str:
    """Name a graph by everything that shaped it: 16 hex digits of a SHA-256."""
    text = json.dumps({"version": VERSION, **description}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_graph(folder: Path) -> SearchGraph:
    """Map a stored graph. Raises CacheError or KeyError when it is damaged."""
    return graph_of(*load_arrays(folder))


def graph_of(arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> SearchGraph:
    """Make a graph of its arrays and JSON-able facts, as they are stored. Raises KeyError where one is missing."""
    return SearchGraph(
        tree=build_tree(facts["max_steps"], facts["auto_search"], facts["shares"]),
        query_ids=facts["query_ids"],
        texts=facts["texts"],
        feature_names=tuple(facts["feature_names"]),
        reformulation_calls=facts["reformulation_calls"],
        gains={source: arrays[f"gain_{source}"] for source in facts["gains"]},
        meta=facts["meta"],
        **{name: arrays[name] for name in (*_ARRAYS, *_POOL)},
    )


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
        raise ConfigError("these collections have no source of gains in common; use a reward model (reward lm)")
    width = max(graph.pool.shape[1] for graph in graphs)

    joined: dict[str, Any] = {name: np.concatenate([getattr(graph, name) for graph in graphs]) for name in _ARRAYS}
    return replace(
        first,
        query_ids=[query_id for graph in graphs for query_id in graph.query_ids],
        texts=[[text for graph in graphs for text in graph.texts[slot]] for slot in range(len(first.texts))],
        **joined,
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


RewardBaseline = Literal["none", "single_pass"]


@dataclass(frozen=True)
class RewardRules:
    """How an episode's end is paid."""

    source: str = "reward"
    """Gain to be paid: a name in ``SearchGraph.gains``."""
    step_penalty: float = 0.001
    """Taken off for every step."""
    baseline: RewardBaseline = "none"
    """``single_pass`` pays the difference from what one plain search would have earned."""
    empty_penalty: float = 1.0
    """Taken off for ending with nothing found; only possible with the mask off."""
    judge_penalty: float = 0.0
    """Taken off for every document that the reward model judged."""


@dataclass(frozen=True)
class Observation:
    """What b episodes see, or episodes in any other arrangement. All float32 but the mask."""

    query: Tensor
    """(b, dim) current query."""
    result: Tensor
    """(b, dim) last ranking's documents."""
    features: Tensor
    """(b, F)"""
    mask: Tensor
    """(b, 4) bool: legal actions; all True with the mask off."""

    def take(self, which: Tensor) -> Observation:
        """What the episodes ``which`` (k,) see."""
        return Observation(self.query[which], self.result[which], self.features[which], self.mask[which])


class GraphTensors:
    """A search graph on a device, ready to be indexed by (query rows, states)."""

    def __init__(self, graph: SearchGraph, rules: RewardRules, use_mask: bool = True, device: str = "cpu") -> None:
        if rules.source not in graph.gains:
            raise ConfigError(
                f"these queries have no {rules.source!r} gains to train on: {nearest(rules.source, graph.gains)}"
            )
        tree = graph.tree
        self.tree = tree
        self.max_steps = tree.max_steps
        self.rules = rules
        self.use_mask = use_mask
        self.device = device
        self.size = len(graph)
        self.weights = self._put(query_weights(graph))
        self.feature_names = graph.feature_names
        self.step_feature = graph.feature_names.index("step")
        self.features = self._put(graph.features)
        self.query_vectors = self._put(graph.query_vectors)
        nothing = np.zeros((len(graph), 1, graph.dim), dtype=np.float32)
        self.result_vectors = self._put(np.concatenate([graph.result_vectors, nothing], axis=1))
        self.query_slot = self._put(tree.query_slot).long()
        self.search_slot = self._put(tree.search_slot % (len(tree.searched_nodes) + 1)).long()  # -1: the last, empty
        self.children = self._put(tree.children).long()
        self.legal = self._put(tree.legal)
        self.state = self._put(tree.state).long()
        self.steps = self._put(tree.step).long()
        self.taken = self._put(tree.taken).long()
        # What the episode pays when it ends in a state, step penalties aside.
        gains = graph.state_gains(rules.source)
        self.single_gain = self._put(gains[:, int(tree.ends[0])])
        if rules.baseline == "single_pass":
            gains = gains - gains[:, [int(tree.ends[0])]]
        gains[:, tree.search_slot < 0] = -rules.empty_penalty
        self.found = self._put(gains)
        gains = gains - np.float32(rules.judge_penalty) * graph.judged.astype(np.float32)
        self.end_gain = self._put(gains)
        # How far apart one query's outcomes lie: the unit in which learning compares them, so that the weight of the
        # entropy bonus means the same whatever the data and the source of gains.
        found = gains[:, tree.ends]
        self.spread = max(float(found.std(axis=1) @ query_weights(graph)), 1e-3)

    def _put(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        return torch.from_numpy(np.array(array)).to(self.device)

    def with_loss_aversion(self, loss_aversion: float) -> GraphTensors:
        """The same, but what an episode earns less than the best fixed sequence of these queries counts that often."""
        ends = torch.from_numpy(self.tree.ends).long().to(self.device)
        paid = self.end_gain[:, ends] - self.rules.step_penalty * self.taken[ends]
        best = ends[(self.weights @ paid).argmax()]
        other = copy.copy(self)
        other.end_gain = self.end_gain.clone()
        lost = (self.end_gain[:, [int(best)]] - self.end_gain[:, ends]).clamp(min=0.0)
        other.end_gain[:, ends] -= (loss_aversion - 1.0) * lost
        return other

    def mean(self, values: Tensor) -> float:
        """Mean of a value a query, (n,), over collections, each of which counts the same."""
        return float((values * self.weights).sum())

    def observe(self, rows: Tensor, nodes: Tensor, step: Tensor | int) -> Observation:
        """What episodes on query ``rows`` in states ``nodes`` see after ``step`` steps; the three broadcast."""
        features = self.features[rows, self.state[nodes]]
        if not self.use_mask:  # a no-op costs a step and leaves the state
            features = features.clone()
            features[..., self.step_feature] = step / self.max_steps
        legal = self.legal[nodes]
        return Observation(
            self.query_vectors[rows, self.query_slot[nodes]],
            self.result_vectors[rows, self.search_slot[nodes]],
            features,
            legal if self.use_mask else torch.ones_like(legal),
        )


class BatchedSearchEnv:
    """b episodes side by side on a graph. Call ``reset``, then ``step`` until every episode is done."""

    def __init__(self, graph: GraphTensors) -> None:
        self.graph = graph

    def reset(self, rows: Tensor) -> Observation:
        """Start one episode for each query row (b,)."""
        self.rows = rows
        self.nodes = torch.full_like(rows, ROOT)
        self.done = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        self.steps = 0
        return self.graph.observe(rows, self.nodes, 0)

    def step(self, actions: Tensor) -> tuple[Observation, Tensor, Tensor]:
        """Take one action in every episode; those that are done stay as they are and earn 0.

        Where TERMINATE has an argument, an episode out of steps ends by its next action, which costs no step. Returns
        the observation, the reward (b,) and whether each episode is now done (b,).
        """
        graph = self.graph
        self.steps += 1
        running = ~self.done
        paid = running if self.steps <= graph.max_steps else torch.zeros_like(running)
        reward = torch.where(paid, -graph.rules.step_penalty, 0.0)
        following = graph.children[self.nodes, actions]
        self.nodes = torch.where(running & (following >= 0), following, self.nodes)
        last = graph.max_steps + (graph.tree.n_shares > 1)
        ends = running & ((actions >= Action.TERMINATE) | (self.steps >= last))
        reward = reward + torch.where(ends, graph.end_gain[self.rows, self.nodes], 0.0)
        self.done = self.done | ends
        return graph.observe(self.rows, self.nodes, min(self.steps, graph.max_steps)), reward, self.done
