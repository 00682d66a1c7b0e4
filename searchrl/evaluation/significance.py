"""Is the difference real? Paired tests, bootstrap intervals, and p-values corrected for how many methods were tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from searchrl.errors import DataError
from searchrl.evaluation.text_table import json_number, number, p_value, text_table

ORACLE = "oracle"
ORACLES = (ORACLE, "reward_oracle")
"""Chosen by what they are judged on, so not tested: by people's judgments, and by the reward model."""
"""Never tested: it chose by the scores it is judged on."""

RESAMPLES = 9_999
_BATCH = 1_000  # resamples held at once: bounds memory at thousands of queries
_TIE = 1e-9  # closer than this, two metric values differ by rounding only


@dataclass(frozen=True)
class PairedComparison:
    """How method a differs from method b on the same queries; positive favours a."""

    mean_difference: float
    ci_low: float
    """95% bootstrap interval of the mean difference; NaN for a single query."""
    ci_high: float
    p_ttest: float
    """Two-sided paired t-test."""
    p_randomisation: float
    """Two-sided paired randomisation (sign-flip) test; exact up to 13 queries."""
    wins: int
    ties: int
    losses: int


def paired_comparison(a: ArrayLike, b: ArrayLike, seed: int = 0) -> PairedComparison:
    """Compare two methods query by query.

    a, b: (n,) values of one metric, same queries in the same order. The tests are those that Smucker, Allan and
    Carterette (2007), "A comparison of statistical significance tests for information retrieval evaluation", recommend.
    Where there is nothing to test (no difference on any query, or a single query) p is 1. Raises DataError if the
    arrays do not pair up, are empty, or hold NaN.
    """
    x, y = _values(a), _values(b)
    if x.shape != y.shape:
        raise DataError(f"cannot pair {x.size} values with {y.size}: both methods need the same queries")
    difference = np.where(np.abs(x - y) <= _TIE, 0.0, x - y)
    low, high = bootstrap_interval(difference, seed)
    return PairedComparison(
        mean_difference=float(difference.mean()),
        ci_low=low,
        ci_high=high,
        p_ttest=_p_ttest(difference),
        p_randomisation=_p_randomisation(difference, seed),
        wins=int((difference > 0).sum()),
        ties=int((difference == 0).sum()),
        losses=int((difference < 0).sum()),
    )


def bootstrap_interval(values: ArrayLike, seed: int = 0) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of the mean of (n,) values; (NaN, NaN) for n = 1.

    Source: Efron and Tibshirani (1993), "An introduction to the bootstrap". Raises DataError on empty input or NaN.
    """
    from scipy import stats

    sample = _values(values)
    if sample.size == 1:
        return float("nan"), float("nan")
    interval = stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=_BATCH,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple comparisons by the step-down method, in the order given.

    Controls the family-wise error rate under any dependence. Source: Holm (1979), "A simple sequentially rejective
    multiple test procedure".
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


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
            if name not in (baseline, *ORACLES)
        ]
        adjusted = holm([comparison.p_randomisation for _, _, comparison in tried])
        for (i, name, comparison), p in zip(tried, adjusted, strict=True):
            tests[i].append(PairedTest(name, baseline, comparison, p))
    return tests


def paired_test_rows(tests: Sequence[PairedTest]) -> list[list[str]]:
    """One row per method and baseline: both, difference, interval, p-values (t-test, randomisation, Holm), W/T/L."""
    rows = []
    for test in tests:
        c = test.comparison
        interval = f"[{number(c.ci_low, '+.4f')}, {number(c.ci_high, '+.4f')}]"
        p_values = [p_value(p) for p in (c.p_ttest, c.p_randomisation, test.p_holm)]
        counts = f"{c.wins}/{c.ties}/{c.losses}"
        rows.append([test.method, test.baseline, number(c.mean_difference, "+.4f"), interval, *p_values, counts])
    return rows


def paired_tests_text(tests: Sequence[PairedTest]) -> str:
    """The tests as a table."""
    header = ["method", "against", "difference", "95% interval", "p t-test", "p random.", "p Holm", "W/T/L"]
    return text_table(header, paired_test_rows(tests))


def paired_tests_json(tests: Sequence[PairedTest]) -> list[dict[str, Any]]:
    """The same, unrounded, as JSON values."""
    values = []
    for test in tests:
        c = asdict(test.comparison)
        bounds = {name: json_number(c.pop(name)) for name in ("ci_low", "ci_high")}
        values.append({"method": test.method, "baseline": test.baseline, **c, **bounds, "p_holm": test.p_holm})
    return values


def _p_ttest(difference: NDArray[np.float64]) -> float:
    from scipy import stats

    if difference.size == 1 or not difference.any():
        return 1.0
    if np.ptp(difference) <= _TIE:  # the same difference everywhere: t is infinite, and scipy warns
        return 0.0
    return float(stats.ttest_rel(difference, np.zeros_like(difference)).pvalue)


def _p_randomisation(difference: NDArray[np.float64], seed: int) -> float:
    from scipy import stats

    if difference.size == 1 or not difference.any():
        return 1.0
    result = stats.permutation_test(
        (difference,),
        np.mean,
        permutation_type="samples",  # of one sample: flips signs, which is exchanging the two methods
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=_BATCH,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def _values(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise DataError(f"need one value per query, at least one query; got an array of shape {array.shape}")
    if np.isnan(array).any():
        raise DataError(f"{int(np.isnan(array).sum())} of {array.size} queries have no value (NaN)")
    return array
