"""How long something takes, warmed up first; and from such rates, how long a training command will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
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
class Rates:
    """What one machine was measured to do with one dataset and its models. Rates are items per second."""

    start: float
    """Seconds to import the libraries and to load encoder, language model and lexical index."""
    documents: float
    """Documents encoded."""
    queries: float
    """Queries played through the whole search graph, judging aside."""
    pairs: float
    """(query, document) pairs judged."""
    episodes: float
    """Episodes trained on, updates and looks at the dev queries included."""


@dataclass(frozen=True)
class Workload:
    """What a training command has to do."""

    documents: int
    queries: int
    pairs: int
    episodes: int


def estimate(rates: Rates, load: Workload, cold: bool) -> Mapping[str, float]:
    """Seconds by part, and their sum as ``total``. Warm: index, graphs and judgments are stored already."""
    parts = {
        "start": rates.start,
        "encoding the corpus": load.documents / rates.documents if cold else 0.0,
        "search graphs": load.queries / rates.queries if cold else 0.0,
        "judging the pool": load.pairs / rates.pairs if cold else 0.0,
        "training": load.episodes / rates.episodes,
    }
    return {**parts, "total": sum(parts.values())}
