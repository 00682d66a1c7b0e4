from __future__ import annotations

import pytest

from benchmarks.figure import Figure, figures_table, short


def test_the_ratio_says_how_many_times_faster_whichever_way_the_unit_counts() -> None:
    assert Figure("a", "rate", 40.0, "documents/s", 2.0).ratio == 20.0
    assert Figure("a", "time", 2.0, "ms/query", 40.0).ratio == 20.0
    assert Figure("a", "time", 2.0, "s", 1.0).ratio == 0.5
    assert Figure("a", "alone", 2.0, "s").ratio is None
    assert Figure("a", "too fast to time", 0.0, "s", 1.0).ratio is None


def test_the_table_has_a_line_a_figure_under_a_line_a_section() -> None:
    table = figures_table(
        [
            Figure("encoding", "documents", 54.321, "documents/s", 13.0),
            Figure("policy forward", "1 episodes", 0.25, "ms"),
        ]
    )
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == ["what", "ours", "unit", "naive", "ratio"]
    assert lines[2:] == [
        ["encoding"],
        ["documents", "54.3", "documents/s", "13", "4.18x"],
        ["policy", "forward"],
        ["1", "episodes", "0.25", "ms"],
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (54.321, "54.3"), (0.012345, "0.0123"), (0.0012, "0.001"), (0.0, "0")]
)
def test_three_digits_that_count(value: float, text: str) -> None:
    assert short(value) == text
