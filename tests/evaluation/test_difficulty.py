from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.errors import DataError
from searchrl.evaluation.difficulty import BINS, difficulty_bins, difficulty_table

HARD, MEDIUM, EASY, PERFECT = range(4)


@pytest.mark.parametrize(
    ("score", "expected"),
    [(0, HARD), (0.1, MEDIUM), (0.43, MEDIUM), (0.5, EASY), (0.999, EASY), (1, PERFECT), (1 - 1e-16, PERFECT)],
)
def test_bins(score, expected):
    assert difficulty_bins([score]) == [expected]


def test_all_methods_share_the_single_passs_bins():
    single = np.array([0.0, 0.0, 0.2, 1.0])
    table = difficulty_table(single, {"single_pass": single, "rl_agent": [0.5, 0.1, 0.4, 0.8]})
    assert table.counts == (2, 1, 0, 1)
    assert table.means["rl_agent"][:2] == pytest.approx((0.3, 0.4))
    assert math.isnan(table.means["rl_agent"][EASY])
    assert table.means["single_pass"][PERFECT] == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40))
def test_bins_add_up_to_the_overall_mean(pairs):
    single, other = np.array(pairs).T
    table = difficulty_table(single, {"other": other})
    total = sum(n * mean for n, mean in zip(table.counts, table.means["other"], strict=True) if n)
    assert sum(table.counts) == len(pairs)
    assert total / len(pairs) == pytest.approx(other.mean(), abs=1e-9)


def test_empty_bins_show_a_dash_and_json_null():
    table = difficulty_table([0.0, 0.2], {"single_pass": [0.0, 0.2]})
    lines = str(table).splitlines()
    assert lines[0].split("  ")[0] == "method"
    assert all(name in lines[0] for name in BINS)
    assert lines[2].split() == ["queries", "1", "1", "0", "0"]
    assert lines[3].split() == ["single_pass", "0.0000", "0.2000", "-", "-"]
    assert json.loads(json.dumps(table.to_json(), allow_nan=False))["means"]["single_pass"] == [0, 0.2, None, None]


def test_methods_need_the_same_queries():
    with pytest.raises(DataError, match="rl_agent has values for 1 queries, single pass for 2"):
        difficulty_table([0.0, 0.2], {"rl_agent": [0.1]})
