from __future__ import annotations

import pytest

from benchmarks.clock import Pace, in_turn, once, seconds


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


def test_once_hands_on_the_result() -> None:
    result, took = once(lambda: "loaded")
    assert result == "loaded"
    assert took >= 0


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
