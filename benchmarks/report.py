"""Everything a benchmark found, as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.estimate import EPISODES, Rates, Workload
from benchmarks.figure import Figure, figures_table, short
from benchmarks.growth import Growth, growth_table
from searchrl.evaluation.text_table import text_table


@dataclass(frozen=True)
class Report:
    """The results of one run."""

    machine: Mapping[str, object]
    load: Sequence[float | None]
    """Load averages of one minute, before and after."""
    dataset: str
    figures: Sequence[Figure]
    rates: Rates
    work: Workload
    estimates: Mapping[str, Mapping[str, float]]
    """``cold`` and ``warm`` -> part -> seconds."""
    growths: Sequence[Growth]

    def text(self) -> str:
        """Tables for people."""
        work = self.work
        rows = [[part, *(short(self.estimates[name][part]) for name in self.estimates)] for part in self.parts]
        about = (
            f"train.py --dataset {self.dataset}: {work.documents:,} documents to encode, {work.queries:,} queries, "
            f"{work.pairs:,} pairs to judge ({work.tokens:,} tokens)"
        )
        blocks = [
            figures_table(self.figures),
            growth_table(self.growths),
            about + "\n" + text_table([f"estimate for {EPISODES:,} episodes, s", *self.estimates], rows),
            self.busy(),
        ]
        return "\n\n".join(block for block in blocks if block)

    @property
    def parts(self) -> list[str]:
        """Of an estimate, in order."""
        return list(next(iter(self.estimates.values())))

    def busy(self) -> str:
        """Whether other programs took part of the machine; empty where they did not, or where nobody knows."""
        cpus, before = self.machine["cpus"], self.load[0]
        if before is None or not isinstance(cpus, int) or before < 0.25 * cpus:
            return ""
        return (
            f"The machine was busy: {before:.1f} programs wanted its {cpus} processors in the minute before. Rates are "
            "too low by that; ratios were taken in turn and stand."
        )

    def to_json(self) -> Mapping[str, object]:
        """All figures with their units. NaN becomes null."""
        content = {
            "machine": dict(self.machine),
            "load_average": {"before": self.load[0], "after": self.load[-1]},
            "dataset": self.dataset,
            "figures": [figure.to_json() for figure in self.figures],
            "growth": [growth.to_json() for growth in self.growths],
            "rates": asdict(self.rates),
            "workload": asdict(self.work),
            "estimated_seconds": {name: dict(parts) for name, parts in self.estimates.items()},
        }
        return {name: _strict(value) for name, value in content.items()}


def _strict(value: object) -> object:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
