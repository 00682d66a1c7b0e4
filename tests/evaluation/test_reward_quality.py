from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from searchrl.errors import DataError, ModelError
from searchrl.evaluation.measures import auc, reward_quality

NAN = float("nan")


@st.composite
def judged_pools(draw):
    n, pool = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    # Few distinct values, so that ties are common.
    score = st.sampled_from([-2.5, -1.0, 0.0, 0.5, 0.75, NAN]) | st.floats(-10, 10, width=32)
    scores = draw(st.lists(st.lists(score, min_size=pool, max_size=pool), min_size=n, max_size=n))
    grade = st.sampled_from([0.0, 0.0, 1.0, 2.0, -1.0, NAN])
    grades = draw(st.lists(st.lists(grade, min_size=pool, max_size=pool), min_size=n, max_size=n))
    return np.array(scores), np.array(grades)


def brute_auc(scores, relevant):
    wins = [(p > n) + 0.5 * (p == n) for p in scores[relevant] for n in scores[~relevant]]
    return np.mean(wins) if wins else NAN


@settings(deadline=None)
@given(judged_pools())
def test_against_the_definitions(pools):
    scores, grades = pools
    quality = reward_quality(scores, grades)
    known = ~np.isnan(scores)
    counted = np.fmax(grades, 0.0)
    aucs, taus, rhos = [], [], []
    for row in range(len(scores)):
        s, g = scores[row, known[row]], counted[row, known[row]]
        if (g > 0).any() and (g == 0).any():
            aucs.append(brute_auc(s, g > 0))
            varied = len(set(s)) > 1
            taus.append(stats.kendalltau(s, g).statistic if varied else 0.0)
            rhos.append(stats.spearmanr(s, g).statistic if varied else 0.0)
    assert (quality.queries, quality.pairs) == (len(aucs), known.sum())
    assert quality.relevant == (counted[known] > 0).sum()
    assert quality.auc == pytest.approx(brute_auc(scores[known], counted[known] > 0), nan_ok=True)
    expected = [np.mean(values) if values else NAN for values in (aucs, taus, rhos)]
    assert [quality.auc_within, quality.kendall, quality.spearman] == pytest.approx(expected, nan_ok=True, abs=1e-9)


@settings(deadline=None)
@given(judged_pools())
def test_auc_mirrors_when_scores_do(pools):
    scores, grades = pools
    relevant = np.fmax(grades, 0.0) > 0
    assert auc(scores, relevant) + auc(-scores, relevant) == pytest.approx(
        np.where(np.isnan(auc(scores, relevant)), NAN, 1.0), nan_ok=True
    )


def test_scores_on_each_querys_own_scale_are_good_within_only():
    rng = np.random.default_rng(0)
    grades = np.tile([1.0, 0.0, 0.0, 0.0], (200, 1))
    scores = grades + rng.normal(0, 100, (200, 1))
    quality = reward_quality(scores, grades)
    assert quality.auc_within == 1
    assert quality.auc == pytest.approx(0.5, abs=0.05)
    assert quality.kendall == pytest.approx(1)
    assert quality.spearman == pytest.approx(1)


def test_it_reads_as_one_line():
    text = str(reward_quality([[0.1, 0.9, NAN], [0.2, 0.3, 0.4]], [[0, 2, 1], [0, NAN, 1]]))
    assert text == (
        "AUC 1.000 over all pairs, 1.000 within a query, tau-b 0.908, Spearman 0.933 (2 queries, 5 pairs, "
        "2 of them relevant)"
    )


def test_nothing_to_compare_is_said_not_raised():
    assert str(reward_quality([[0.1, 0.9]], [[NAN, 0]])).startswith("unknown: ")
    assert str(reward_quality(np.full((2, 3), NAN), np.ones((2, 3)))).startswith("unknown: ")
    assert str(reward_quality(np.empty((0, 3)), np.empty((0, 3)))).startswith("unknown: ")
    apart = reward_quality([[0.9, 0.8], [0.1, 0.2]], [[1, 1], [0, 0]])
    assert str(apart) == "AUC 1.000 over all pairs; undefined within queries (0 queries, 4 pairs, 2 of them relevant)"


def test_bad_input():
    with pytest.raises(DataError, match=r"\(1, 2\).*\(1, 3\)"):
        reward_quality([[0.1, 0.2]], [[0, 0, 1]])
    with pytest.raises(ModelError, match="infinite"):
        reward_quality([[0.1, -np.inf]], [[0, 1]])


def test_it_is_a_value():
    quality = reward_quality([[0.1, 0.9]], [[0, 1]])
    assert dataclasses.asdict(quality)["auc"] == 1
