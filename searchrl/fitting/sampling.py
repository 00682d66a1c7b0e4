"""Draws without replacement that stages have in common."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")

TRIES = 20
"""Draws for each row wanted, before it is accepted that nearly all rows are taken."""


def draw(random: np.random.Generator, items: Sequence[Item], count: int) -> list[Item]:
    """At most so many items, in the order they had."""
    if len(items) <= count:
        return list(items)
    return [items[i] for i in sorted(random.choice(len(items), size=count, replace=False))]


def draw_others(random: np.random.Generator, rows: int, count: int, taken: Collection[int]) -> list[int]:
    """At most so many row numbers below ``rows`` that are not taken; fewer where few are free."""
    tried = random.integers(rows, size=TRIES * count).tolist() if rows else []
    return [row for row in dict.fromkeys(tried) if row not in taken][:count]


def ladder(items: Sequence[Item], count: int) -> list[Item]:
    """So many of a ranking's items, from the first to the last, at places that grow ever further apart.

    A ranking tells its first few from its middle better than its middle from its end.
    """
    if count >= len(items) or count < 2:
        return list(items[:count])
    places = np.geomspace(1, len(items), count).round().astype(int) - 1
    for i in range(1, count):
        places[i] = max(places[i], places[i - 1] + 1)
    return [items[place] for place in places]
