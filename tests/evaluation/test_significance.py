from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.errors import DataError
from searchrl.evaluation.significance import (
    bootstrap_interval,
    holm,
    paired_comparison,
    paired_tests,
    paired_tests_json,
    paired_tests_text,
)

pairs_of_scores = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8)


@settings(max_examples=30, deadline=None)
@given(pairs_of_scores)
def test_the_randomisation_test_counts_sign_flips(pairs):
    a, b = np.round(np.array(pairs), 3).T
    result = paired_comparison(a, b)
    d = a - b
    flipped = [abs(np.mean(d * signs)) for signs in itertools.product([-1, 1], repeat=len(d))]
    expected = np.mean(np.array(flipped) >= abs(d.mean()) - 1e-12)
    assert result.p_randomisation == pytest.approx(min(expected, 1.0))
    assert result.mean_difference == pytest.approx(d.mean(), abs=1e-9)
    assert result.wins + result.ties + result.losses == len(d)
    assert 0 <= result.p_ttest <= 1
    assert result.ci_low - 1e-9 <= result.mean_difference <= result.ci_high + 1e-9


def test_a_real_difference_is_found_and_its_size():
    rng = np.random.default_rng(1)
    b = rng.random(300)
    a = b + rng.normal(0.05, 0.2, 300)
    result = paired_comparison(a, b, seed=3)
    assert max(result.p_ttest, result.p_randomisation) < 0.01
    assert 0 < result.ci_low < result.mean_difference < result.ci_high < 0.15
    swapped = paired_comparison(b, a, seed=3)
    assert (swapped.wins, swapped.losses) == (result.losses, result.wins)
    assert swapped.mean_difference == -result.mean_difference


def test_p_values_are_uniform_where_there_is_no_difference():
    rng = np.random.default_rng(2)
    results = [paired_comparison(*rng.random((2, 12)), seed=i) for i in range(60)]
    for p in (np.array([r.p_ttest for r in results]), np.array([r.p_randomisation for r in results])):
        assert 0.3 < p.mean() < 0.7
        assert (p < 0.05).mean() <= 0.15


def test_the_interval_covers_the_true_mean():
    rng = np.random.default_rng(3)
    intervals = [bootstrap_interval(rng.normal(0.2, 1, 60), seed=i) for i in range(100)]
    covered = sum(low < 0.2 < high for low, high in intervals)
    assert 88 <= covered <= 99


def test_no_difference_anywhere():
    result = paired_comparison([0.1, 0.2, 0.3], [0.1, 0.2, 0.1 + 0.2])  # 0.1 + 0.2 is not 0.3: rounding is a tie
    assert (result.p_ttest, result.p_randomisation) == (1, 1)
    assert (result.mean_difference, result.ci_low, result.ci_high) == (0, 0, 0)
    assert (result.wins, result.ties, result.losses) == (0, 3, 0)


def test_the_same_difference_everywhere():
    result = paired_comparison([0.4] * 4, [0.1] * 4)
    assert result.p_ttest == 0
    assert result.p_randomisation == pytest.approx(2 / 16)
    assert (result.ci_low, result.ci_high) == pytest.approx((0.3, 0.3))


@pytest.mark.parametrize(("a", "wins"), [(0.9, 1), (0.5, 0)])
def test_a_single_query_proves_nothing(a, wins):
    result = paired_comparison([a], [0.5])
    assert (result.p_ttest, result.p_randomisation, result.wins) == (1, 1, wins)
    assert np.isnan([result.ci_low, result.ci_high]).all()


def test_the_seed_decides():
    rng = np.random.default_rng(4)
    a, b = rng.random((2, 40))
    assert paired_comparison(a, b, seed=1) == paired_comparison(a, b, seed=1)
    assert paired_comparison(a, b, seed=1) != paired_comparison(a, b, seed=2)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0], [1.0, 2.0], "same queries"),
        ([], [], "at least one query"),
        ([1.0, float("nan")], [1.0, 2.0], "1 of 2 queries have no value"),
    ],
)
def test_values_that_do_not_pair_up(a, b, message):
    with pytest.raises(DataError, match=message):
        paired_comparison(a, b)


def test_holm_by_the_book():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1, 1]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values, alpha):
    rejected = set()
    for step, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] * (len(p_values) - step) > alpha:
            break
        rejected.add(i)
    adjusted = holm(p_values)
    assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected
    assert all(new >= old for new, old in zip(adjusted, p_values, strict=True))


def scores(seed: int, n: int, *gains: float) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.random(n)
    return [base, *(base + rng.normal(gain, 0.1, n) for gain in gains)]


def test_holm_is_over_methods_and_data_sets_but_not_over_baselines() -> None:
    a, b, c = scores(0, 30, 0.04, 0.03)
    d, e = scores(1, 20, 0.06)
    one, two = {"base": a, "x": b, "y": c}, {"base": d, "x": e}
    found = paired_tests([one, two], ["base", "x"], seed=5)
    assert [[(t.method, t.baseline) for t in tests] for tests in found] == [
        [("x", "base"), ("y", "base"), ("base", "x"), ("y", "x")],
        [("x", "base"), ("base", "x")],
    ]
    for baseline in ("base", "x"):
        family = [t for tests in found for t in tests if t.baseline == baseline]
        plain = [t.comparison.p_randomisation for t in family]
        assert [t.p_holm for t in family] == pytest.approx(holm(plain))
        assert len(family) == 3
        assert min(t.p_holm for t in family) == pytest.approx(min(1.0, 3 * min(plain)))
    assert found[1][0].comparison == paired_comparison(e, d, seed=5)


def test_the_oracle_takes_no_part() -> None:
    a, b = scores(2, 10, 0.05)
    (tests,) = paired_tests([{"base": a, "oracle": np.maximum(a, b), "x": b}], ["base"])
    assert [t.method for t in tests] == ["x"]
    assert tests[0].p_holm == tests[0].comparison.p_randomisation, "nothing but x was tried"


def test_a_baseline_that_is_not_there_is_passed_over() -> None:
    a, b = scores(3, 10, 0.05)
    first, second = paired_tests([{"base": a, "x": b}, {"x": b}], ["base", "none"])
    assert (len(first), len(second)) == (1, 0)


def test_text_and_json_say_the_same() -> None:
    a, b = scores(4, 25, 0.1)
    (tests,) = paired_tests([{"base": a, "x": b}], ["base"])
    (value,) = paired_tests_json(tests)
    row = paired_tests_text(tests).splitlines()[2].split()
    assert row[:2] == ["x", "base"] == [value["method"], value["baseline"]]
    assert row[2] == f"{value['mean_difference']:+.4f}"
    assert row[-1] == f"{value['wins']}/{value['ties']}/{value['losses']}"


def test_values_must_pair_up() -> None:
    with pytest.raises(DataError, match="same queries"):
        paired_tests([{"base": np.ones(3), "x": np.ones(4)}], ["base"])
