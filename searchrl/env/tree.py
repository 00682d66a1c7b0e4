"""The four actions, and the states one query can reach by them. The rules fix them, so every query has the same tree.

A state is reached by one sequence of legal actions from the root (nothing searched yet). SEARCH is legal only while
the current query is unsearched, the others only once it has been searched; so under the mask no action is a no-op.
With the mask off an illegal action leaves the state as it is and costs its step.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from searchrl.threads import lazy


class Action(IntEnum):
    """What the agent can do at a step; the ids are fixed."""

    SEARCH = 0
    NARROW = 1
    BROADEN = 2
    TERMINATE = 3


N_ACTIONS = len(Action)

ROOT = 0
NOWHERE = -1


@dataclass(frozen=True)
class Node:
    """One node: how it was reached and what holds there."""

    parent: int
    action: Action | None
    """The action that led here; None at the root."""
    step: int
    """Least number of steps from the root."""
    searched: bool
    """Whether the current query has been searched."""
    searches: int
    reformulations: int


@dataclass(frozen=True)
class Tree:
    """All reachable states, parents before children, level by level."""

    states: tuple[Node, ...]
    max_steps: int
    auto_search: bool

    def __len__(self) -> int:
        return len(self.states)

    @lazy
    def children(self) -> NDArray[np.int32]:
        """(states, actions) int32: where an action leads; ``NOWHERE`` where it is illegal, or TERMINATE."""
        table = np.full((len(self.states), N_ACTIONS), NOWHERE, dtype=np.int32)
        for node, state in enumerate(self.states):
            if state.action is not None:
                table[state.parent, state.action] = node
        return table

    @lazy
    def legal(self) -> NDArray[np.bool_]:
        """(states, actions) bool: the action mask."""
        searched = self.searched
        mask = np.zeros((len(self.states), N_ACTIONS), dtype=bool)
        mask[:, Action.SEARCH] = ~searched
        for action in (Action.NARROW, Action.BROADEN, Action.TERMINATE):
            mask[:, action] = searched
        return mask

    @lazy
    def searched(self) -> NDArray[np.bool_]:
        """(states,) bool: the current query has been searched."""
        return np.array([s.searched for s in self.states])

    @lazy
    def step(self) -> NDArray[np.int32]:
        """(states,) int32: steps from the root."""
        return np.array([s.step for s in self.states], dtype=np.int32)

    @lazy
    def searches(self) -> NDArray[np.int32]:
        """(states,) int32: searches run on the way."""
        return np.array([s.searches for s in self.states], dtype=np.int32)

    @lazy
    def reformulations(self) -> NDArray[np.int32]:
        """(states,) int32: reformulations made on the way."""
        return np.array([s.reformulations for s in self.states], dtype=np.int32)

    @lazy
    def search_slot(self) -> NDArray[np.int32]:
        """(states,) int32: which searched state holds the newest ranking, counted in order; -1 before any search."""
        slots = np.full(len(self.states), NOWHERE, dtype=np.int32)
        for node, state in enumerate(self.states):
            if state.searched:
                slots[node] = int(self.searched[:node].sum())
            elif state.parent != NOWHERE:
                slots[node] = slots[state.parent]
        return slots

    @lazy
    def query_slot(self) -> NDArray[np.int32]:
        """(states,) int32: which query is current, counted in order of appearance; the original is 0."""
        slots = np.zeros(len(self.states), dtype=np.int32)
        count = 1
        for node, state in enumerate(self.states):
            if state.action in (Action.NARROW, Action.BROADEN):
                slots[node], count = count, count + 1
            elif state.parent != NOWHERE:
                slots[node] = slots[state.parent]
        return slots

    @lazy
    def searched_nodes(self) -> NDArray[np.int32]:
        """Searched states in slot order: where an episode can sensibly end."""
        return np.flatnonzero(self.searched).astype(np.int32)

    def actions_to(self, node: int) -> list[Action]:
        """The legal actions that lead from the root to a node."""
        return [Action(action) for n in self.path(node) if (action := self.states[n].action) is not None]

    def path(self, node: int) -> list[int]:
        """States from the root to a node, both included."""
        nodes = [node]
        while nodes[-1] != ROOT:
            nodes.append(self.states[nodes[-1]].parent)
        return nodes[::-1]


@lru_cache(maxsize=16)
def build_tree(max_steps: int, auto_search: bool = False) -> Tree:
    """Unroll the rules for ``max_steps`` steps."""
    states = [Node(NOWHERE, None, 0, False, 0, 0)]
    node = 0
    while node < len(states):
        state = states[node]
        if state.step < max_steps:
            if not state.searched:
                states.append(Node(node, Action.SEARCH, state.step + 1, True, state.searches + 1, state.reformulations))
            else:
                for action in (Action.NARROW, Action.BROADEN):
                    searches = state.searches + int(auto_search)
                    states.append(Node(node, action, state.step + 1, auto_search, searches, state.reformulations + 1))
        node += 1
    return Tree(tuple(states), max_steps, auto_search)
