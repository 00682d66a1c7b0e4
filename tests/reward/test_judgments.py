from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from searchrl.data.dataset import QuerySet
from searchrl.reward.gain import Judgments
from tests.tiny import corpus_of

SIZE = 14
CORPUS = corpus_of(*["text"] * SIZE)
GRADES = st.dictionaries(st.integers(0, SIZE - 1), st.integers(-1, 3))  # pytrec_eval crashes on lower grades alone
RANKED = st.lists(st.integers(0, SIZE - 1), max_size=SIZE, unique=True)


def judged(*grades: dict[int, int]) -> QuerySet:
    ids = [f"q{i}" for i in range(len(grades))]
    qrels = {q: {f"d{d}": g for d, g in row.items()} for q, row in zip(ids, grades, strict=True)}
    return QuerySet(ids, ["?"] * len(ids), qrels)


def padded(rows: list[list[int]]) -> np.ndarray:
    width = max(1, *(len(row) for row in rows))
    return np.array([row + [-1] * (width - len(row)) for row in rows], dtype=np.int32)


@given(st.lists(st.tuples(GRADES, RANKED), min_size=1, max_size=4), st.sampled_from([1, 5, 10]))
def test_gain_is_trec_evals_ndcg(cases, k):
    queries = judged(*(grades for grades, _ in cases))
    gains = Judgments(queries, CORPUS).gain(padded([ranked for _, ranked in cases]), k)
    for row, (query, (grades, ranked)) in enumerate(zip(queries.ids, cases, strict=True)):
        expected = 0.0
        if grades and ranked:
            evaluator = pytrec_eval.RelevanceEvaluator({query: dict(queries.qrels[query])}, {f"ndcg_cut.{k}"})
            run = {f"d{d}": float(SIZE - place) for place, d in enumerate(ranked)}
            expected = evaluator.evaluate({query: run})[query][f"ndcg_cut_{k}"]
        assert gains[row] == pytest.approx(expected, abs=1e-6)


@given(GRADES, st.lists(st.integers(-1, SIZE - 1), min_size=1, max_size=6))
def test_grades_are_looked_up_with_zero_for_the_unjudged(grades, documents):
    found = Judgments(judged(grades), CORPUS).grades(np.array([documents], np.int32))
    assert found.tolist() == [[max(0, grades.get(d, 0)) if d >= 0 else 0 for d in documents]]


def test_unknown_documents_and_unjudged_queries_gain_nothing() -> None:
    queries = QuerySet(["q0", "q1"], ["?", "?"], {"q0": {"elsewhere": 2, "d1": 1}})
    gains = Judgments(queries, CORPUS).gain(np.array([[1, 2], [1, 2]], np.int32))
    assert gains.tolist() == [1.0, 0.0]
    assert gains.dtype == np.float64


def test_queries_without_any_judgment() -> None:
    assert Judgments(QuerySet(["q"], ["?"]), CORPUS).gain(np.array([[0, 1]], np.int32)).tolist() == [0.0]
