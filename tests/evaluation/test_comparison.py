from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.errors import DataError
from searchrl.evaluation.comparison import BINS, ComparisonTable, MethodResult, difficulty_bins, difficulty_table
from searchrl.evaluation.significance import holm, paired_tests_text
from searchrl.retrieval.ranking import Ranking

N = 40


def method(name: str, ndcg, reward=None, **changes) -> MethodResult:
    metrics = {"nDCG@10": np.asarray(ndcg, dtype=float), "Recall@100": np.full(len(ndcg), 0.75)}
    if reward is not None:
        metrics["reward nDCG@10"] = np.asarray(reward, dtype=float)
    ones = np.ones(len(ndcg))
    given = {"steps": 2 * ones, "searches": ones, "lm_calls": 0 * ones, "action_fractions": np.array([0.5, 0, 0, 0.5])}
    ranking = Ranking(np.zeros((len(ndcg), 1), dtype=np.int32), np.ones((len(ndcg), 1), dtype=np.float32))
    return MethodResult(name, metrics, ranking=ranking, actions=[[0, 3]] * len(ndcg), **(given | changes))


@pytest.fixture(scope="module")
def table() -> ComparisonTable:
    rng = np.random.default_rng(0)
    single = np.round(rng.random(N), 2)
    best_fixed = np.clip(single + rng.normal(0.02, 0.1, N), 0, 1)
    agent = np.clip(best_fixed + rng.normal(0.06, 0.05, N), 0, 1)
    oracle = np.maximum(np.maximum(single, best_fixed), agent)
    reward = rng.random(N)
    return ComparisonTable.build(
        [
            method("single_pass", single, reward),
            method("best_fixed", best_fixed),
            method(
                "rl_agent", agent, reward, lm_calls=np.full(N, 1.5), action_fractions=np.array([0.4, 0.2, 0.1, 0.3])
            ),
            method("oracle", oracle),
        ],
        seed=7,
    )


def rows(text: str) -> dict[str, list[str]]:
    lines = text.splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines[2:]}


def test_summary_has_a_row_per_method_and_the_reward_beside_the_human_column(table):
    text = table.summary_text()
    header = text.splitlines()[0]
    names = "nDCG@10 reward_nDCG@10 Recall@100 avg_steps searches LM_calls A0 A1 A2 A3"
    assert header.split("  ")[0] == "method"
    assert [cell.strip().replace(" ", "_") for cell in header.split("  ")[1:] if cell.strip()] == names.split()
    assert text.splitlines()[-1] == "A0 search, A1 narrow, A2 broaden, A3 terminate"
    cells = rows(text.rsplit("\n", 1)[0])
    assert list(cells) == ["single_pass", "best_fixed", "rl_agent", "oracle"]
    agent = table.methods[2]
    means = [f"{np.mean(agent.metrics[m]):.4f}" for m in ("nDCG@10", "reward nDCG@10", "Recall@100")]
    assert cells["rl_agent"] == [*means, "2.00", "1.00", "1.50", "40%", "20%", "10%", "30%"]
    assert cells["oracle"][1] == "-"  # no reward view of it


def test_columns_are_aligned(table):
    for text in (table.summary_text().rsplit("\n", 1)[0], paired_tests_text(table.tests), str(table.difficulty)):
        lines = text.splitlines()
        ends = {i for i, (a, b) in enumerate(zip(lines[1], lines[1][1:] + " ", strict=True)) if (a, b) == ("-", " ")}
        for line in (lines[0], *lines[2:]):
            assert all(line[i] != " " for i in ends if i > lines[1].index(" "))  # right-aligned under the rule


def test_tests_are_paired_and_corrected_over_methods(table):
    assert [(t.method, t.baseline) for t in table.tests] == [
        ("best_fixed", "single_pass"),
        ("rl_agent", "single_pass"),
        ("single_pass", "best_fixed"),
        ("rl_agent", "best_fixed"),
    ]
    for family in (table.tests[:2], table.tests[2:]):
        assert [t.p_holm for t in family] == pytest.approx(holm([t.comparison.p_randomisation for t in family]))
    against_best = table.tests[3].comparison
    assert against_best.p_randomisation < 0.01
    text = paired_tests_text(table.tests).splitlines()[-1]
    assert f"{against_best.wins}/{against_best.ties}/{against_best.losses}" in text
    assert f"{against_best.mean_difference:+.4f}" in text


def test_text_has_all_three_parts(table):
    text = str(table)
    for part in (table.summary_text(), str(table.difficulty), paired_tests_text(table.tests)):
        assert part in text


def test_json_says_what_the_text_says(table):
    value = json.loads(json.dumps(table.to_json(), allow_nan=False))
    agent = value["methods"]["rl_agent"]
    assert value["queries"] == N
    assert agent["metrics"]["nDCG@10"] == pytest.approx(table.methods[2].means["nDCG@10"])
    assert agent["interval"][0] < agent["metrics"]["nDCG@10"] < agent["interval"][1]
    assert (agent["avg_steps"], agent["searches"], agent["lm_calls"]) == (2, 1, 1.5)
    assert agent["action_fractions"] == [0.4, 0.2, 0.1, 0.3]
    assert [(t["method"], t["p_holm"]) for t in value["tests"]] == [(t.method, t.p_holm) for t in table.tests]
    assert sum(value["difficulty"]["queries"]) == N


def test_one_method_on_one_query_still_makes_a_table():
    table = ComparisonTable.build([method("single_pass", [0.4])])
    assert not table.tests
    assert json.loads(json.dumps(table.to_json(), allow_nan=False))["methods"]["single_pass"]["interval"] == [None] * 2
    assert "0.4000" in str(table)


def test_without_a_single_pass_there_are_no_bins():
    table = ComparisonTable.build([method("a", [0.1, 0.2]), method("b", [0.3, 0.2])])
    assert table.difficulty is None
    assert "difficulty" not in str(table)


def test_the_same_methods_give_the_same_table(table):
    again = ComparisonTable.build(table.methods, seed=7)
    assert again.to_json() == table.to_json()
    assert str(again) == str(table)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ([], "nothing to compare"),
        ([method("a", [0.1]), method("a", [0.1])], "share a name"),
        ([method("single_pass", [0.1]), method("b", [0.1, 0.2])], "cannot pair 2 values with 1"),
        ([method("a", [float("nan"), 1.0])], "1 of 2 queries have no value"),
    ],
)
def test_results_that_do_not_fit_together(methods, message):
    with pytest.raises(DataError, match=message):
        ComparisonTable.build(methods)


def test_a_missing_measure_is_named():
    with pytest.raises(DataError, match=r"method a has no MRR@10; it has nDCG@10, Recall@100"):
        ComparisonTable.build([method("a", [0.1])], measure="MRR@10")


def test_no_p_value_reads_as_zero():
    table = ComparisonTable.build([method("single_pass", np.zeros(50)), method("a", np.linspace(0.5, 0.6, 50))])
    assert "<.0001" in paired_tests_text(table.tests)
    assert " 0.0000" not in paired_tests_text(table.tests)


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
    assert table.deviations["rl_agent"][:2] == pytest.approx((0.2, 0.0))
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
    assert lines[3].split() == ["single_pass", *"0.0000 ± 0.00 0.2000 ± 0.00 - -".split()]
    told = json.loads(json.dumps(table.to_json(), allow_nan=False))
    assert told["means"]["single_pass"] == [0, 0.2, None, None]
    assert told["deviations"]["single_pass"] == [0, 0, None, None]


def test_methods_need_the_same_queries():
    with pytest.raises(DataError, match="rl_agent has values for 1 queries, single pass for 2"):
        difficulty_table([0.0, 0.2], {"rl_agent": [0.1]})
