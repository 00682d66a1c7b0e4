"""The four actions, and the states one query can reach by them. The rules fix them, so every query has the same tree.

A state is reached by one sequence of legal actions from the root (nothing searched yet). SEARCH is legal only while
the current query is unsearched, the others only once it has been searched; so under the mask no action is a no-op.
With the mask off an illegal action leaves the state as it is and costs its step.

Where an episode may say how far the reward model is trusted in the final ranking, TERMINATE has an argument: action 3
is TERMINATE with the first share, 4 with the second, and so on. Each leads to an end of its own, which stands in the
tree after all states. An episode that is out of steps still makes this choice, and pays no step for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    action: int | None
    """The action that led here; None at the root."""
    step: int
    """Least number of steps from the root."""
    searched: bool
    """Whether the current query has been searched."""
    searches: int
    reformulations: int
    over: bool = False
    """Whether this is an end that a TERMINATE with an argument led to."""


@dataclass(frozen=True)
class Tree:
    """All reachable states, parents before children, level by level; then the ends, where TERMINATE has an argument."""

    states: tuple[Node, ...]
    max_steps: int
    auto_search: bool
    n_shares: int = 1
    """How many arguments TERMINATE takes; 1: none, and it leads nowhere."""

    def __len__(self) -> int:
        return len(self.states)

    @property
    def n_actions(self) -> int:
        """Actions there are, each argument of TERMINATE counted."""
        return N_ACTIONS - 1 + self.n_shares

    @lazy
    def over(self) -> NDArray[np.bool_]:
        """(states,) bool: an end, after which nothing can be done."""
        return np.array([s.over for s in self.states])

    @property
    def open_states(self) -> int:
        """How many states, which come first, are no ends."""
        return len(self.states) - int(self.over.sum())

    @lazy
    def state(self) -> NDArray[np.int32]:
        """(states,) int32: the state itself, or the one in which an episode was that came to this end."""
        return np.array([s.parent if s.over else node for node, s in enumerate(self.states)], dtype=np.int32)

    @lazy
    def share(self) -> NDArray[np.int32]:
        """(states,) int32: which argument of TERMINATE led to an end; 0 for all other states."""
        places = [(s.action or 0) - Action.TERMINATE if s.over else 0 for s in self.states]
        return np.array(places, dtype=np.int32)

    @lazy
    def children(self) -> NDArray[np.int32]:
        """(states, actions) int32: where an action leads; ``NOWHERE`` where it is illegal, or a plain TERMINATE."""
        table = np.full((len(self.states), self.n_actions), NOWHERE, dtype=np.int32)
        for node, state in enumerate(self.states):
            if state.action is not None:
                table[state.parent, state.action] = node
        return table

    @lazy
    def legal(self) -> NDArray[np.bool_]:
        """(states, actions) bool: the action mask. With arguments, an episode out of steps may still TERMINATE."""
        mask = np.repeat(self.searched[:, None], self.n_actions, axis=1)
        mask[:, Action.SEARCH] = ~self.searched
        if self.n_shares > 1:
            mask[self.step == self.max_steps] = np.arange(self.n_actions) >= Action.TERMINATE
            mask[self.over] = np.arange(self.n_actions) == Action.TERMINATE  # which changes nothing any more
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
            if state.searched and not state.over:
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
        """Searched states in slot order."""
        return np.flatnonzero(self.searched & ~self.over).astype(np.int32)

    @lazy
    def ends(self) -> NDArray[np.int32]:
        """Where an episode can sensibly end: the searched states, or what TERMINATE with an argument makes of them.

        The first is that of a plain search, by the first argument.
        """
        return self.searched_nodes if self.n_shares == 1 else np.flatnonzero(self.over & self.searched).astype(np.int32)

    @lazy
    def end_slot(self) -> NDArray[np.int32]:
        """(states,) int32: which of ``ends`` has the final ranking of an episode that ends here; -1 before any search.

        Of several, that by the first argument.
        """
        return np.where(self.search_slot < 0, NOWHERE, self.search_slot * self.n_shares + self.share).astype(np.int32)

    @lazy
    def taken(self) -> NDArray[np.int32]:
        """(states,) int32: steps of an episode that ends here, its TERMINATE included where a step was left for it."""
        return np.where(self.over, self.step, np.minimum(self.step + 1, self.max_steps)).astype(np.int32)

    def actions_to(self, node: int) -> list[int]:
        """The legal actions that lead from the root to a node."""
        return [action for n in self.path(node) if (action := self.states[n].action) is not None]

    def path(self, node: int) -> list[int]:
        """States from the root to a node, both included."""
        nodes = [node]
        while nodes[-1] != ROOT:
            nodes.append(self.states[nodes[-1]].parent)
        return nodes[::-1]


def kind(action: int) -> Action:
    """Which of the four an action is, whatever its argument."""
    return Action(min(int(action), Action.TERMINATE))


def action_names(actions: Sequence[int]) -> str:
    """Names of actions, with the place of TERMINATE's argument where it is not the first: ``SEARCH TERMINATE:2``."""
    names = [kind(action).name for action in actions]
    return " ".join(
        f"{name}:{action - Action.TERMINATE}" if action > Action.TERMINATE else name
        for name, action in zip(names, actions, strict=True)
    )


@lru_cache(maxsize=16)
def build_tree(max_steps: int, auto_search: bool = False, n_shares: int = 1) -> Tree:
    """Unroll the rules for ``max_steps`` steps. n_shares: arguments that TERMINATE takes; 1 for none."""
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
    if n_shares > 1:
        for parent, state in enumerate(tuple(states)):
            if state.searched or state.step == max_steps:
                after = replace(state, parent=parent, step=min(state.step + 1, max_steps), over=True)
                states += [replace(after, action=Action.TERMINATE + share) for share in range(n_shares)]
    return Tree(tuple(states), max_steps, auto_search, n_shares)
