from __future__ import annotations

import pytest

from searchrl.evaluation.timing import Rates, Workload, estimate, once, seconds


def test_warm_ups_do_not_count_and_the_median_does_not_follow_one_slow_call(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    durations = iter([50.0, 40.0, 1.0, 2.0, 99.0])

    def work() -> None:
        nonlocal now
        now += next(durations)

    monkeypatch.setattr("time.perf_counter", lambda: now)
    assert seconds(work, repeats=3, warm_ups=2) == 2.0
    assert next(durations, None) is None


def test_once_hands_on_the_result() -> None:
    result, took = once(lambda: "loaded")
    assert result == "loaded"
    assert took >= 0


def test_an_estimate_is_work_by_rate_and_warm_leaves_out_what_is_stored() -> None:
    rates = Rates(start=7.0, documents=10.0, queries=50.0, pairs=4.0, episodes=2000.0)
    load = Workload(documents=100, queries=200, pairs=40, episodes=10_000)
    cold, warm = estimate(rates, load, cold=True), estimate(rates, load, cold=False)
    assert cold == {
        "start": 7.0,
        "encoding the corpus": 10.0,
        "search graphs": 4.0,
        "judging the pool": 10.0,
        "training": 5.0,
        "total": 36.0,
    }
    assert list(warm) == list(cold)
    assert warm["total"] == 12.0
