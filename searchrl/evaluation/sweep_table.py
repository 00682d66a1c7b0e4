"""What came of training one policy a value of a setting: quality beside cost, and for seeds mean and spread."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from searchrl.evaluation.comparison import MethodResult
from searchrl.evaluation.text_table import json_number, number, text_table

SEED = "seed"
COSTS = ("searches", "LM calls", "steps")
QUALITY = "nDCG@10"


@dataclass(frozen=True)
class SweepRow:
    """One value: as it is written in flags, its run's folder in the sweep's, what its policy did on the dev queries.

    columns: means over the queries: measures by name, then ``COSTS`` per query. Of several collections each counts the
    same, and each one's nDCG@10 stands under its name, too (``scifact nDCG@10``).
    """

    value: str
    run: str
    columns: Mapping[str, float]

    @classmethod
    def of(cls, value: str, run: str, results: Mapping[str, MethodResult]) -> SweepRow:
        """Average a policy's results on one or more collections, by name."""
        means = [{**result.means, **_costs(result)} for result in results.values()]
        shared = [name for name in means[0] if all(name in others for others in means)]
        columns = {name: float(np.mean([one[name] for one in means])) for name in shared}
        if len(results) > 1:
            columns |= {
                f"{name} {QUALITY}": one[QUALITY] for name, one in zip(results, means, strict=True) if QUALITY in one
            }
        return cls(value, run, columns)


@dataclass(frozen=True)
class SweepTable:
    """One row per value, as text (``str``), CSV and JSON values. setting: the flag that was swept, without dashes."""

    setting: str
    rows: Sequence[SweepRow]

    @property
    def spread(self) -> dict[str, dict[str, float]]:
        """Of seeds, column -> mean, sd (of a sample, NaN for one seed), min, max; of other settings nothing."""
        if self.setting != SEED or not self.rows:
            return {}
        found = {}
        for name in self.rows[0].columns:
            values = np.array([row.columns[name] for row in self.rows])
            sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
            found[name] = {
                "mean": float(values.mean()),
                "sd": sd,
                "min": float(values.min()),
                "max": float(values.max()),
            }
        return found

    def __str__(self) -> str:
        shown = [name for name in self.rows[0].columns if name in COSTS or name.endswith(QUALITY)]
        spread = self.spread
        of = {row.value: row.columns for row in self.rows}
        of |= {kind: {c: spread[c][kind] for c in spread} for kind in next(iter(spread.values()), ())}
        rows = [[name, *(number(c[s], _format(name, s)) for s in shown)] for name, c in of.items()]
        return text_table([self.setting, *shown], rows)

    def to_csv(self) -> str:
        """One line per value under a header; numbers unrounded."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([self.setting, "run", *self.rows[0].columns])
        writer.writerows([row.value, row.run, *row.columns.values()] for row in self.rows)
        return buffer.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values; ``value`` is a number."""
        return {
            "setting": self.setting,
            "rows": [{"value": float(row.value), "run": row.run, **row.columns} for row in self.rows],
            "spread": {name: {k: json_number(v) for k, v in kinds.items()} for name, kinds in self.spread.items()},
        }


def _costs(result: MethodResult) -> dict[str, float]:
    arrays = (result.searches, result.lm_calls, result.steps)
    return {name: float(np.mean(array)) for name, array in zip(COSTS, arrays, strict=True)}


def _format(row: str, column: str) -> str:
    return ".2f" if column in COSTS and row != "sd" else ".4f"
