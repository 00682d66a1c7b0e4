"""Many episodes at once over a search graph: one row of each array is one episode. No models, no Python a row."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from searchrl.env.graph import SearchGraph, query_weights
from searchrl.env.tree import ROOT, Action
from searchrl.errors import ConfigError, nearest

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
        self.steps = self._put(tree.step).long()
        # What the episode pays when it ends in a state, step penalties aside.
        gains = graph.state_gains(rules.source)
        self.single_gain = self._put(gains[:, int(tree.searched_nodes[0])])
        if rules.baseline == "single_pass":
            gains = gains - gains[:, [int(tree.searched_nodes[0])]]
        gains[:, tree.search_slot < 0] = -rules.empty_penalty
        self.end_gain = self._put(gains)
        # How far apart one query's outcomes lie: the unit in which learning compares them, so that the weight of the
        # entropy bonus means the same whatever the data and the source of gains.
        found = gains[:, tree.searched_nodes]
        self.spread = max(float(found.std(axis=1) @ query_weights(graph)), 1e-3)

    def _put(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        return torch.from_numpy(np.array(array)).to(self.device)

    def with_loss_aversion(self, loss_aversion: float) -> GraphTensors:
        """The same, but what an episode finds less than one plain search would have counts that many times."""
        searched = torch.from_numpy(self.tree.searched_nodes).long().to(self.device)
        other = copy.copy(self)
        other.end_gain = self.end_gain.clone()
        single = self.end_gain[:, searched[:1]]
        lost = (single - self.end_gain[:, searched]).clamp(min=0.0)
        other.end_gain[:, searched] -= (loss_aversion - 1.0) * lost
        return other

    def mean(self, values: Tensor) -> float:
        """Mean of a value a query, (n,), over collections, each of which counts the same."""
        return float((values * self.weights).sum())

    def observe(self, rows: Tensor, nodes: Tensor, step: Tensor | int) -> Observation:
        """What episodes on query ``rows`` in states ``nodes`` see after ``step`` steps; the three broadcast."""
        features = self.features[rows, nodes]
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

        Returns the observation, the reward (b,) and whether each episode is now done (b,).
        """
        graph = self.graph
        self.steps += 1
        running = ~self.done
        reward = torch.where(running, -graph.rules.step_penalty, 0.0)
        following = graph.children[self.nodes, actions]
        moves = running & (actions != Action.TERMINATE) & (following >= 0)
        self.nodes = torch.where(moves, following, self.nodes)
        ends = running & ((actions == Action.TERMINATE) | (self.steps >= graph.max_steps))
        reward = reward + torch.where(ends, graph.end_gain[self.rows, self.nodes], 0.0)
        self.done = self.done | ends
        return graph.observe(self.rows, self.nodes, self.steps), reward, self.done
