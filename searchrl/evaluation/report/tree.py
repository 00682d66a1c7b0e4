"""The agent's episodes as a tree of actions, each branch as wide as it is often taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from searchrl.env.tree import ROOT, Action, Tree
from searchrl.evaluation.report.charts import svg
from searchrl.evaluation.report.markup import Markup, element

COLUMN = 130.0
ROW = 34.0
WIDEST = 16.0
"""Stroke of the branch that every episode takes."""


def end_states(tree: Tree, actions: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """The state in which each of n episodes ended, (n,), from its actions; TERMINATE leads nowhere."""
    ends = []
    for episode in actions:
        node = ROOT
        for action in episode:
            following = int(tree.children[node, action])
            node = following if following >= 0 else node
        ends.append(node)
    return np.array(ends, dtype=np.int64)


def visits(tree: Tree, ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Episodes that came by each state: (states,)."""
    counts = np.bincount(ends, minlength=len(tree))
    for node in range(len(tree) - 1, ROOT, -1):  # children come after their parents
        counts[tree.states[node].parent] += counts[node]
    return np.asarray(counts, dtype=np.int64)


def action_tree(tree: Tree, ends: NDArray[np.int64], gains: ArrayLike) -> Markup:
    """Draw the states that were visited, and where episodes ended with their mean gain.

    ends: (n,) states. gains: (n,) difference from the single pass.
    """
    return _Drawing(tree, ends, np.asarray(gains, dtype=np.float64)).svg()


class _Drawing:
    """Lays the tree out from left to right, ends in rows of their own."""

    def __init__(self, tree: Tree, ends: NDArray[np.int64], gains: NDArray[np.float64]) -> None:
        self.tree = tree
        self.ends = ends
        self.gains = gains
        self.visits = visits(tree, ends)
        self.rows = 0
        self.depth = 0
        self.branches: list[Markup] = []
        self.marks: list[Markup] = []

    def svg(self) -> Markup:
        self._place(ROOT, 0)
        width, height = 40.0 + self.depth * COLUMN + 280.0, self.rows * ROW + 10.0
        return svg("The agent's episodes as a tree of actions", width, height, *self.branches, *self.marks)

    def _place(self, node: int, depth: int) -> float:
        """Draw a state and what follows; returns its height."""
        self.depth = max(self.depth, depth)
        x, heights = 20.0 + depth * COLUMN, []
        following = [int(child) for child in self.tree.children[node] if child >= 0 and self.visits[child]]
        below = [(child, self._place(child, depth + 1)) for child in following]
        heights = [y for _, y in below]
        stopped = self.ends == node
        if stopped.any():
            heights.append(self._row())
            self._end(node, x, heights[-1], stopped)
        y = sum(heights) / len(heights)
        for child, child_y in below:
            self._branch(x, y, x + COLUMN, child_y, self.visits[child], self.tree.states[child].action)
        if stopped.any():
            self._branch(x, y, x + 40.0, heights[-1], int(stopped.sum()), None)
        self.marks.append(element("circle", class_="state", cx=x, cy=y, r=5.0))
        return y

    def _row(self) -> float:
        self.rows += 1
        return self.rows * ROW - ROW / 2 + 5.0

    def _branch(self, x: float, y: float, to_x: float, to_y: float, count: int, action: Action | None) -> None:
        middle = (x + to_x) / 2
        path = f"M{x:.1f} {y:.1f}C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
        colour = f"a{int(Action.TERMINATE if action is None else action)}"
        width = max(WIDEST * count / len(self.ends), 1.0)
        self.branches.append(element("path", class_=f"branch {colour}", d=path, stroke_width=width))
        if action is not None:
            label = f"{action.name.lower()} {count / len(self.ends):.0%}"
            self.marks.append(element("text", label, class_="name", x=to_x - 10, y=to_y - 11, text_anchor="end"))

    def _end(self, node: int, x: float, y: float, stopped: NDArray[np.bool_]) -> None:
        how = "step limit" if self.tree.step[node] >= self.tree.max_steps else "terminate"
        count = int(stopped.sum())
        label = f"{how} {count / len(self.ends):.0%} ({count}), gain {self.gains[stopped].mean():+.4f}"
        self.marks.append(element("rect", class_="end", x=x + 36.0, y=y - 5, width=10.0, height=10.0))
        self.marks.append(element("text", label, x=x + 52.0, y=y + 4))
