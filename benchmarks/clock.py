"""How long things take: once, repeatedly, or several ways to the same end in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

Result = TypeVar("Result")


def once(work: Callable[[], Result]) -> tuple[Result, float]:
    """Do something that can be done only once, such as loading: its result and its seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def seconds(work: Callable[[], object], repeats: int = 5, warm_ups: int = 1) -> float:
    """Median seconds of ``repeats`` calls, after ``warm_ups`` calls that do not count."""
    for _ in range(warm_ups):
        work()
    return median(once(work)[1] for _ in range(repeats))


@dataclass(frozen=True)
class Pace:
    """How one way went, round by round."""

    done: Sequence[float]
    seconds: Sequence[float]

    def rate(self, done: Sequence[float] | None = None) -> float:
        """Units a second, the median over rounds; ``done`` counts them in another unit (tokens instead of texts)."""
        return median(n / took for n, took in zip(done or self.done, self.seconds, strict=True))

    @property
    def each(self) -> float:
        """Seconds a unit."""
        return 1.0 / self.rate()


def in_turn(rounds: int, **ways: Callable[[int], float]) -> dict[str, Pace]:
    """Time several ways to the same end; in each round each takes its turn, in the order given.

    So a busy machine slows all of them alike, and their ratios stand. A way is called with the round's number and
    returns how much it did: items, tokens, operations.
    """
    done: dict[str, list[float]] = {name: [] for name in ways}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, work in ways.items():
            start = time.perf_counter()
            done[name].append(work(number))
            spent[name].append(time.perf_counter() - start)
    return {name: Pace(done[name], spent[name]) for name in ways}
