"""Where a method gains: means by difficulty, with bins fixed by what the single pass scored.

All methods share the bins, so a column compares like with like. Since single pass defines them, its own means are
pushed down in ``hard`` and up in ``perfect`` (regression to the mean), and any other method can only win in the one
and only lose in the other. The table describes; the tests belong to the whole query set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from searchrl.errors import DataError
from searchrl.evaluation.text_table import json_number, number, text_table

BINS = ("hard", "medium", "easy", "perfect")
BIN_RULES = ("= 0", "< .5", "< 1", "= 1")
"""By the single pass's nDCG@10. Hard: nothing relevant in the top 10. Perfect: the ideal top 10. The two between are
split at .5, a lone relevant document at rank 3. Fixed, not quantiles: they mean the same on every collection."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class DifficultyTable:
    """Mean score of each method in each bin, hardest first.

    counts: queries in each of ``BINS``. means: method -> mean in each bin, NaN where the bin is empty.
    """

    counts: tuple[int, ...]
    means: Mapping[str, tuple[float, ...]]

    def __str__(self) -> str:
        labels = [f"{name} {rule}" for name, rule in zip(BINS, BIN_RULES, strict=True)]
        rows = [[name, *map(number, means)] for name, means in self.means.items()]
        return text_table(["method", *labels], [["queries", *map(str, self.counts)], *rows])

    def to_json(self) -> dict[str, Any]:
        """Return bins, counts and means as JSON values."""
        return {
            "bins": list(BINS),
            "rules": list(BIN_RULES),
            "queries": list(self.counts),
            "means": {name: [json_number(mean) for mean in means] for name, means in self.means.items()},
        }


def difficulty_bins(single_pass: ArrayLike) -> NDArray[np.intp]:
    """Return the bin of each query, an index into ``BINS``, from the single pass's nDCG@10: (n,) -> (n,)."""
    return np.digitize(np.asarray(single_pass, dtype=np.float64), [_ROUNDING, 0.5 - _ROUNDING, 1 - _ROUNDING])


def difficulty_table(single_pass: ArrayLike, methods: Mapping[str, ArrayLike]) -> DifficultyTable:
    """Average each method's (n,) values within the bins that the single pass's (n,) nDCG@10 fixes.

    Raises DataError if a method has another number of queries.
    """
    bins = difficulty_bins(single_pass)
    counts = np.bincount(bins, minlength=len(BINS))
    means = {}
    for name, given in methods.items():
        values = np.asarray(given, dtype=np.float64)
        if values.shape != bins.shape:
            raise DataError(f"{name} has values for {values.size} queries, single pass for {bins.size}")
        sums = np.bincount(bins, weights=values, minlength=len(BINS))
        means[name] = tuple(float(s / c) if c else float("nan") for s, c in zip(sums, counts, strict=True))
    return DifficultyTable(tuple(int(count) for count in counts), means)
