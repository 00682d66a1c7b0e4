from __future__ import annotations

import itertools

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.data.trec import TrecRun, read_trec_qrels, read_trec_run, write_trec_run
from searchrl.errors import DataError, OutputError

ids = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6)
scores = st.one_of(st.floats(-1e30, 1e30), st.sampled_from([0.0, -0.0, 1.0, 1.0 - 1e-9, 1e-45, 0.1]))


@st.composite
def runs(draw):
    rankings = {}
    for query_id in draw(st.lists(ids, min_size=1, max_size=4, unique=True)):
        documents = draw(st.lists(ids, min_size=1, max_size=8, unique=True))
        values = sorted((draw(scores) for _ in documents), reverse=True)
        rankings[query_id] = list(zip(documents, values, strict=True))
    return TrecRun(draw(ids), rankings)


@settings(deadline=None)
@given(run=runs())
def test_reading_gives_the_order_that_was_written(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("trec") / "a.run"
    write_trec_run(path, run)
    read = read_trec_run(path)
    assert read.tag == run.tag
    assert {q: [d for d, _ in r] for q, r in read.rankings.items()} == {
        q: [d for d, _ in r] for q, r in run.rankings.items()
    }
    for query_id, ranking in read.rankings.items():
        single = [np.float32(score) for _, score in ranking]
        assert all(a > b for a, b in itertools.pairwise(single)), "strictly decreasing in float32"
        assert single[0] == np.float32(run.rankings[query_id][0][1]), "the best score is never touched"
    assert read.rankings == {q: list(s.items()) for q, s in run.untied().items()}
    text = path.read_bytes()
    write_trec_run(path, read)
    assert path.read_bytes() == text, "a second round changes nothing"


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=2, unique=True), st.sampled_from([0.0, 1.0, 1e9]))
def test_trec_eval_cannot_reorder_ties(documents, score):
    run = TrecRun("tied", {"q": [(d, score) for d in documents]})
    for position, document in enumerate(documents, start=1):
        evaluator = pytrec_eval.RelevanceEvaluator({"q": {document: 1}}, {"recip_rank"})
        assert evaluator.evaluate(run.untied())["q"]["recip_rank"] == pytest.approx(1 / position)


def test_distinct_scores_are_kept():
    run = TrecRun("t", {"q": [("a", 0.75), ("b", 0.5), ("c", -2.0)]})
    assert run.untied() == {"q": {"a": 0.75, "b": 0.5, "c": -2.0}}


def test_the_six_columns(tmp_path):
    write_trec_run(tmp_path / "a.run", TrecRun("bm25", {"q2": [("d1", 2.5), ("d9", 0.1)], "q1": [("d1", -1.0)]}))
    assert (tmp_path / "a.run").read_text().splitlines() == [
        "q2 Q0 d1 1 2.5 bm25",
        "q2 Q0 d9 2 0.100000001 bm25",
        "q1 Q0 d1 1 -1 bm25",
    ]


def test_a_run_that_found_nothing_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "bm25.run"
    write_trec_run(path, TrecRun("bm25", {"q": []}))
    assert read_trec_run(path) == TrecRun("bm25", {})


def test_foreign_runs_are_read_by_score_not_by_rank(tmp_path):
    path = tmp_path / "a.run"
    path.write_text("q Q0 a 0 1.0 t\nr\tQ0\tz\t1\t7\tt\r\nq Q0 c 1 5e0 t\n\nq Q0 b 2 1.0 t\n")
    assert read_trec_run(path).rankings == {"q": [("c", 5.0), ("b", 1.0), ("a", 1.0)], "r": [("z", 7.0)]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 d 1 1.0 t\nq d 1.0\n", "line 2: 6 columns are expected, found 3"),
        ("q Q0 d one 1.0 t\n", "line 1: the rank 'one' is not an integer"),
        ("q Q0 d 1 high t\n", "line 1: the score 'high' is not a number"),
        ("q Q0 d 1 nan t\n", "line 1: the score 'nan' is not finite"),
        ("q Q0 d 1 1e39 t\n", "line 1: the score '1e39' is not finite in float32"),
        ("q Q0 d 1 2 t\n\nq Q0 d 2 1 t\n", "line 3: document 'd' is ranked twice for query 'q'"),
        ("q Q0 d 1 2 t\nq Q0 e 2 1 u\n", "line 2: the tag 'u' differs from 't'"),
    ],
)
def test_a_damaged_run_names_file_and_line(tmp_path, text, message):
    path = tmp_path / "a.run"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_trec_run(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("tag", "query_id", "ranking", "message"),
    [
        ("t", "q", [("d", float("nan"))], "not finite"),
        ("t", "q", [("d", float("-inf"))], "not finite"),
        ("t", "q", [("d", 1.0), ("e", 2.0)], "'e' is not finite, or increases"),
        ("t", "q", [("d", 1.0), ("d", 0.5)], "'d' is ranked twice"),
        ("t", "q", [("d 1", 1.0)], "'d 1' must be non-empty and without whitespace"),
        ("t", "q 1", [("d", 1.0)], "'q 1' must be non-empty and without whitespace"),
        ("my tag", "q", [("d", 1.0)], "the tag 'my tag' must be"),
    ],
)
def test_what_trec_eval_would_misread_is_not_written(tmp_path, tag, query_id, ranking, message):
    with pytest.raises(DataError, match=message):
        write_trec_run(tmp_path / "a.run", TrecRun(tag, {query_id: ranking}))
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"a\.run cannot be written"):
        write_trec_run(tmp_path / "file" / "a.run", TrecRun("t", {"q": [("d", 1.0)]}))


@settings(deadline=None)
@given(qrels=st.dictionaries(ids, st.dictionaries(ids, st.integers(-2, 10), min_size=1, max_size=4), min_size=1))
def test_qrels_read_back_the_same(tmp_path_factory, qrels):
    path = tmp_path_factory.mktemp("trec") / "qrels.txt"
    lines = [f"{q} 0 {d} {grade}\n" for q, judged in qrels.items() for d, grade in judged.items()]
    path.write_text("".join(lines), encoding="utf-8")
    assert read_trec_qrels(path) == qrels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no judgments"),
        ("q 0 d 1\nq d 1\n", "line 2: 4 columns are expected, found 3"),
        ("q 0 d 0.5\n", "line 1: the grade '0.5' is not an integer"),
        ("q 0 d 1\nq 0 d 2\n", "line 2: query 'q', document 'd' is judged 2, before 1"),
    ],
)
def test_damaged_qrels_name_file_and_line(tmp_path, text, message):
    path = tmp_path / "qrels.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_trec_qrels(path)
