"""Fixed ways to search, to compare the agent with: they do the same for every query, or choose blindly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from searchrl.env.graph import RewardRules, SearchGraph, query_weights
from searchrl.env.tree import ROOT, Action, Tree, action_names

IntVector = NDArray[np.int64]

HEURISTIC = (Action.SEARCH, Action.NARROW, Action.SEARCH, Action.BROADEN, Action.SEARCH)


def follow(tree: Tree, actions: Sequence[int]) -> int:
    """State that a fixed sequence ends in, its illegal actions passed over."""
    node = ROOT
    for action in actions:
        following = int(tree.children[node, action])
        node = following if following >= 0 else node
    return node


def single_pass(graph: SearchGraph, place: int | None = None) -> IntVector:
    """One plain search, then stop, by the argument of this place where TERMINATE has one: end states (n,)."""
    stop = () if place is None else (Action.TERMINATE + place,)
    return np.full(len(graph), follow(graph.tree, (Action.SEARCH, *stop)))


def best_share(graph: SearchGraph, source: str) -> int:
    """Place of the argument of TERMINATE that is best on average after one plain search. Choose on dev queries."""
    gains = query_weights(graph) @ np.asarray(graph.gains[source])
    return int(gains[: graph.tree.n_shares].argmax())


def heuristic(graph: SearchGraph) -> IntVector:
    """Search, narrow, search, broaden, search: end states (n,)."""
    return np.full(len(graph), follow(graph.tree, HEURISTIC))


def random_actions(graph: SearchGraph, rng: np.random.Generator) -> IntVector:
    """Uniform over the legal actions at each step: end states (n,)."""
    nodes = np.full(len(graph), ROOT, dtype=np.int64)
    done = np.zeros(len(graph), dtype=bool)
    tree = graph.tree
    for _ in range(tree.max_steps):
        legal = tree.legal[nodes]
        action = (rng.random(legal.shape) * legal).argmax(axis=1)
        following = tree.children[nodes, action]
        nodes = np.where(done | (following < 0), nodes, following)
        done |= action >= Action.TERMINATE
    return nodes


def best_fixed(graph: SearchGraph, rules: RewardRules) -> int:
    """The sequence, given by its end state, that pays best on average over these queries. Choose on dev queries.

    Over several collections, each counts the same.
    """
    return int(graph.tree.ends[(query_weights(graph) @ returns(graph, rules)).argmax()])


def oracle(graph: SearchGraph, rules: RewardRules) -> IntVector:
    """The best achievable episode of every query, known only with hindsight: end states (n,)."""
    return np.asarray(graph.tree.ends[returns(graph, rules).argmax(axis=1)], dtype=np.int64)


def returns(graph: SearchGraph, rules: RewardRules) -> NDArray[np.float64]:
    """What each of the tree's ends pays, (n, E); TERMINATE costs a step unless the episode is truncated."""
    ends = graph.tree.ends
    costs = rules.step_penalty * graph.tree.taken[ends] + rules.judge_penalty * graph.judged[:, ends]
    return np.asarray(graph.gains[rules.source] - costs, dtype=np.float64)


def describe(tree: Tree, node: int) -> str:
    """Name a fixed sequence by its actions: ``SEARCH BROADEN SEARCH``."""
    return action_names(tree.actions_to(node))
