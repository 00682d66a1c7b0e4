from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.errors import ModelError
from searchrl.reward.gain import (
    OFFSET,
    SLOPE,
    best_gains,
    calibrate,
    ndcg_at_k,
    ranking_ndcg,
)

NAN = float("nan")
K = 10


@st.composite
def judged_ranking(draw):
    """Grades in rank order (None: retrieved but not judged) and grades of judged documents that were not retrieved."""
    retrieved = draw(st.lists(st.none() | st.integers(-1, 4), min_size=1, max_size=30))
    missed = draw(st.lists(st.integers(-1, 4), max_size=15))
    return retrieved, missed


@settings(deadline=None)
@given(judged_ranking(), st.sampled_from([1, 3, 10, 20]))
def test_ndcg_is_trec_evals(judged, k):
    retrieved, missed = judged
    qrels = {f"r{i}": grade for i, grade in enumerate(retrieved) if grade is not None}
    qrels |= {f"m{i}": grade for i, grade in enumerate(missed)}
    run = {f"r{i}": float(len(retrieved) - i) for i in range(len(retrieved))}
    expected = 0.0
    if qrels:
        evaluator = pytrec_eval.RelevanceEvaluator({"q": qrels}, {f"ndcg_cut.{k}"})
        expected = evaluator.evaluate({"q": run})["q"][f"ndcg_cut_{k}"]
    listed = np.array([NAN if grade is None else grade for grade in retrieved])
    pool = np.array([*retrieved, *missed], dtype=float)
    assert ranking_ndcg(listed, pool, k) == pytest.approx(expected, abs=1e-6)


def test_ndcg_takes_batches_and_broadcasts():
    rng = np.random.default_rng(0)
    pool = rng.random((4, 30))
    positions = np.stack([[rng.permutation(30)[:K] for _ in range(7)] for _ in range(4)])  # (queries, states, k)
    listed = np.take_along_axis(pool[:, None], positions, axis=-1)
    together = ndcg_at_k(listed, best_gains(pool, K)[:, None])
    assert together.shape == (4, 7)
    for q in range(4):
        for s in range(7):
            assert together[q, s] == pytest.approx(float(ranking_ndcg(listed[q, s], pool[q], K)))
    assert (together < 1).all()


def test_nothing_to_find_gains_nothing():
    assert ndcg_at_k(np.zeros((2, 3)), np.array([[0, 0, 0], [1, 0, 0]])).tolist() == [0, 0]
    assert ndcg_at_k([1, 0, 0], [1, 0, 0]) == 1


def test_list_ideal_cannot_see_what_the_pooled_one_sees():
    pool = np.array([0.9, 0.9, 0.2, 0.2, 0.2])
    bad_list = np.array([0.2, 0.2, 0.2])
    assert ranking_ndcg(bad_list, bad_list, 3) == pytest.approx(1.0)
    assert ranking_ndcg(bad_list, pool, 3) < 0.5


def test_lists_and_pools_shorter_than_k():
    assert ranking_ndcg([1.0, 0.0], [0.0, 1.0], 10) == pytest.approx(1.0)
    assert ranking_ndcg([0.0, 1.0], [0.0, 1.0], 10) == pytest.approx(1 / np.log2(3))


def test_best_gains():
    assert best_gains([[0.1, NAN, 0.7], [NAN, NAN, -2.0]], 4).tolist() == [[0.7, 0.1, 0, 0], [0, 0, 0, 0]]
    assert best_gains([[0.1, 0.5, 0.7]], 2).tolist() == [[0.7, 0.5]]


def test_absolute_scores_pass_through_clipped():
    scores = np.array([[0.2, 1.3, -0.1, NAN]], dtype=np.float32)
    assert calibrate(scores, absolute=True)[0] == pytest.approx([0.2, 1, 0, 0])


def test_other_scores_compare_within_the_query_only():
    scores = np.array([[1.0, 2.0, 3.0, NAN], [-900.0, -700.0, -500.0, NAN]])
    gains = calibrate(scores, absolute=False)
    assert gains[0] == pytest.approx(gains[1])
    z = np.array([-1, 0, 1]) * np.sqrt(1.5)
    assert gains[0] == pytest.approx([*(1 / (1 + np.exp(-(SLOPE * z + OFFSET)))), 0])


@pytest.mark.parametrize("row", [[0.1, 0.1, 0.1], [-3.3333333, NAN, -3.3333333], [5.0, NAN, NAN]])
def test_scores_without_spread_all_gain_the_same(row):
    gains = calibrate(np.array([row], dtype=np.float32), absolute=False)[0]
    here = ~np.isnan(row)
    assert gains[here] == pytest.approx(1 / (1 + np.exp(-OFFSET)))
    assert (gains[~here] == 0).all()


def test_an_empty_pool_has_no_gains():
    assert calibrate(np.full((2, 3), NAN), absolute=False).tolist() == [[0, 0, 0], [0, 0, 0]]


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32) | st.just(NAN), min_size=1, max_size=20))
def test_gains_lie_in_the_unit_interval_and_keep_the_order(row):
    scores = np.array([row])
    gains = calibrate(scores, absolute=False)[0]
    assert ((gains >= 0) & (gains <= 1)).all()
    here = ~np.isnan(scores[0])
    assert (np.diff(gains[here][np.argsort(scores[0, here])]) >= -1e-12).all()


def test_infinite_scores_are_refused():
    with pytest.raises(ModelError, match="query 1"):
        calibrate(np.array([[0.0, 1.0], [0.0, -np.inf]]), absolute=False)
