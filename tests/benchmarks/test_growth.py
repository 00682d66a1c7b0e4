from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.growth import Growth, fitted_exponent, growth_table


@given(st.floats(-1, 3), st.floats(1e-6, 1e3), st.lists(st.integers(1, 10**6), min_size=2, max_size=6, unique=True))
def test_a_power_law_gives_its_exponent(exponent: float, factor: float, sizes: list[int]) -> None:
    costs = [factor * size**exponent for size in sizes]
    assert fitted_exponent(sizes, costs) == pytest.approx(exponent, abs=1e-6)


def test_the_fit_goes_between_points_that_lie_on_no_line() -> None:
    assert fitted_exponent([1, 10, 100], [1.0, 20.0, 100.0]) == pytest.approx(1.0)


def test_nothing_can_be_fitted_to_one_size_or_to_no_time() -> None:
    assert math.isnan(fitted_exponent([100], [1.0]))
    assert math.isnan(fitted_exponent([100, 200], [0.0, 1.0]))


def test_a_table_for_queries_and_one_for_documents() -> None:
    table = growth_table(
        [
            Growth("play", "queries", {100: 1.0, 1000: 10.0}),
            Growth("search", "documents", {1_000: 0.5, 10_000: 0.5}),
        ]
    )
    first, second = table.split("\n\n")
    assert first.splitlines()[0].split() == ["growth", "with", "queries,", "s", "100", "1,000", "exponent"]
    assert first.splitlines()[2].split() == ["play", "1", "10", "1.00"]
    assert second.splitlines()[2].split() == ["search", "0.5", "0.5", "0.00"]
