from __future__ import annotations

import numpy as np
import pytest

from searchrl.errors import DataError
from searchrl.evaluation.paired_tests import paired_tests, paired_tests_json, paired_tests_text
from searchrl.evaluation.statistics import holm, paired_comparison


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
