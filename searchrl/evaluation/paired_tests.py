"""Every method against the baselines, query by query, with p-values that allow for how many were tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import ArrayLike

from searchrl.evaluation.statistics import PairedComparison, holm, paired_comparison
from searchrl.evaluation.text_table import json_number, number, p_value, text_table

ORACLE = "oracle"
"""Never tested: it chose by the scores it is judged on."""


@dataclass(frozen=True)
class PairedTest:
    """One method against one baseline; ``p_holm`` corrects the randomisation p over all that is held against it."""

    method: str
    baseline: str
    comparison: PairedComparison
    p_holm: float


def paired_tests(
    datasets: Sequence[Mapping[str, ArrayLike]], baselines: Sequence[str], seed: int = 0
) -> list[list[PairedTest]]:
    """Test every method but the oracle against every baseline present: one list for each data set.

    datasets: method -> (n,) values of one metric, n its own for each data set. Holm's correction is over all methods
    and data sets that are tested against the same baseline. Raises DataError where values do not pair up.
    """
    tests: list[list[PairedTest]] = [[] for _ in datasets]
    for baseline in baselines:
        tried = [
            (i, name, paired_comparison(values[name], values[baseline], seed))
            for i, values in enumerate(datasets)
            if baseline in values
            for name in values
            if name not in (baseline, ORACLE)
        ]
        adjusted = holm([comparison.p_randomisation for _, _, comparison in tried])
        for (i, name, comparison), p in zip(tried, adjusted, strict=True):
            tests[i].append(PairedTest(name, baseline, comparison, p))
    return tests


def paired_tests_text(tests: Sequence[PairedTest]) -> str:
    """One row per method and baseline: difference, interval, p-values, wins/ties/losses."""
    header = ["method", "against", "difference", "95% interval", "p t-test", "p random.", "p Holm", "W/T/L"]
    rows = []
    for test in tests:
        c = test.comparison
        interval = f"[{number(c.ci_low, '+.4f')}, {number(c.ci_high, '+.4f')}]"
        p_values = [p_value(p) for p in (c.p_ttest, c.p_randomisation, test.p_holm)]
        counts = f"{c.wins}/{c.ties}/{c.losses}"
        rows.append([test.method, test.baseline, number(c.mean_difference, "+.4f"), interval, *p_values, counts])
    return text_table(header, rows)


def paired_tests_json(tests: Sequence[PairedTest]) -> list[dict[str, Any]]:
    """The same, unrounded, as JSON values."""
    values = []
    for test in tests:
        c = asdict(test.comparison)
        bounds = {"ci_low": json_number(c.pop("ci_low")), "ci_high": json_number(c.pop("ci_high"))}
        values.append({"method": test.method, "baseline": test.baseline, **c, **bounds, "p_holm": test.p_holm})
    return values
