from __future__ import annotations

import json

import pytest

from benchmarks import measure
from benchmarks.measure import (
    Figure,
    Pace,
    describe_machine,
    figures_table,
    in_turn,
    load_average,
    matrix_product,
    once,
    seconds,
    short,
)
from searchrl.device import choose_device


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_warm_ups_do_not_count_and_the_median_does_not_follow_one_slow_call(clock: Clock) -> None:
    durations = iter([50.0, 40.0, 1.0, 2.0, 99.0])

    def work() -> None:
        clock.now += next(durations)

    assert seconds(work, repeats=3, warm_ups=2) == 2.0
    assert next(durations, None) is None


def test_once_hands_on_the_result_and_its_time(clock: Clock) -> None:
    clock.now = 100.0

    def work() -> str:
        clock.now += 2.5
        return "loaded"

    assert once(work) == ("loaded", 2.5)


def test_ways_take_turns_and_a_busy_minute_slows_all_of_them_alike(clock: Clock) -> None:
    order = []
    slowness = [1.0, 10.0, 1.0]

    def way(name: str, cost: float, items: float):
        def work(number: int) -> float:
            order.append(name)
            clock.now += cost * items * slowness[number]
            return items

        return work

    pace = in_turn(3, naive=way("naive", 4.0, 2), ours=way("ours", 0.5, 32))
    assert order == ["naive", "ours"] * 3
    assert (pace["naive"].each, pace["ours"].each) == (4.0, 0.5)
    assert pace["ours"].rate() / pace["naive"].rate() == 8.0


def test_a_pace_can_be_counted_in_another_unit() -> None:
    pace = Pace(done=[2, 2, 2], seconds=[1.0, 2.0, 4.0])
    assert pace.rate() == 1.0
    assert pace.rate([100, 100, 1000]) == 100.0


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


def test_the_machine_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = describe_machine(choose_device("cpu"))
    assert facts["processor"] == facts["device_name"] != ""
    assert json.dumps(facts)
    monkeypatch.setattr("os.getloadavg", lambda: (1.5, 0.5, 0.1), raising=False)
    assert load_average() == 1.5
    monkeypatch.delattr("os.getloadavg")
    assert load_average() is None


def test_a_large_product_counts_its_operations_in_every_format_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "CPU_SIZE", 64)
    for name in ("float32", "int8"):
        product = matrix_product(name, "cpu")
        if product is not None:
            assert product(0) % (2 * 64**3) == 0
            assert product(0) > 0
    assert matrix_product("float32", "cpu") is not None
    monkeypatch.setattr(measure, "GPU_SIZE", 8)
    assert matrix_product("int8", "cuda") is None
