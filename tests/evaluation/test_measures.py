from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.data.dataset import QuerySet
from searchrl.errors import ConfigError, DataError
from searchrl.evaluation.measures import MEASURES, evaluate, evaluate_ranking, ranking_to_run
from searchrl.retrieval.ranking import NO_DOCUMENT, Ranking

QRELS = {"q1": {"a": 2, "b": 1, "c": 0}, "q2": {"x": 1}, "q3": {"a": 0}}


def ranking(*rows: list[int]) -> Ranking:
    documents = np.array(rows, dtype=np.int32)
    scores = np.where(documents == NO_DOCUMENT, -np.inf, 1.0).astype(np.float32)  # all alike: only the order speaks
    return Ranking(documents, scores)


def test_known_values():
    run = {"q1": {"c": 3.0, "b": 2.0, "a": 1.0}}
    values = evaluate(run, QRELS)
    assert list(values) == list(MEASURES)
    ideal = 2 + 1 / math.log2(3)
    assert values["nDCG@10"]["q1"] == pytest.approx((1 / math.log2(3) + 2 / math.log2(4)) / ideal)
    assert values["Recall@100"]["q1"] == 1
    assert values["MRR@10"]["q1"] == 0.5


def test_every_judged_query_counts_and_no_other():
    values = evaluate({"q1": {"a": 1.0}, "q2": {}, "unjudged": {"a": 1.0}}, QRELS)
    for by_query in values.values():
        assert list(by_query) == ["q1", "q2", "q3"]
        assert by_query["q2"] == by_query["q3"] == 0


def test_an_empty_run_scores_zero():
    assert evaluate({}, QRELS, ["MRR@10"]) == {"MRR@10": {"q1": 0.0, "q2": 0.0, "q3": 0.0}}


def test_a_query_whose_judgments_are_empty_scores_zero():
    assert evaluate({"q": {"a": 1.0}}, {"q": {}}, ["nDCG@10"]) == {"nDCG@10": {"q": 0.0}}


def test_inputs_are_left_alone():
    run, qrels = {"q1": {"q1": 2.0, "a": 1.0}, "zz": {"a": 1.0}}, copy.deepcopy(QRELS)
    before = copy.deepcopy(run)
    evaluate(run, qrels)
    assert run == before
    assert qrels == QRELS


@pytest.mark.parametrize("rank", [1, 5, 9, 10, 11, 20])
@pytest.mark.parametrize("cutoff", [5, 10, 20])
def test_mrr_sees_no_further_than_its_cutoff(rank, cutoff):
    run = {"q2": {("x" if i == rank else f"d{i}"): -float(i) for i in range(1, 31)}}
    assert evaluate(run, QRELS, [f"MRR@{cutoff}"])[f"MRR@{cutoff}"]["q2"] == (1 / rank if rank <= cutoff else 0)


def test_several_cutoffs_at_once():
    run = {"q2": {("x" if i == 7 else f"d{i}"): -float(i) for i in range(1, 31)}}
    values = evaluate(run, QRELS, ["Recall@5", "Recall@10", "P@10", "MAP@10", "nDCG@5"])
    assert [round(by_query["q2"], 4) for by_query in values.values()] == [0, 1, 0.1, round(1 / 7, 4), 0]


@pytest.mark.parametrize(
    "measure",
    ["ndgc@10", "nDCG@ten", "recip_rank", "recall@100", "nDCG@1.5", "P(rel=0)@5", "P(10)", "", "nDCG@10; AP", "SDCG@5"],
)
def test_unknown_measures_name_the_way_out(measure):
    with pytest.raises(ConfigError, match=r"as in nDCG@10; .*Valid: AP, .*nDCG|cannot be computed"):
        evaluate({}, QRELS, [measure])


@pytest.mark.parametrize("measure", ["nDCG@0", "MRR@0", "P@0"])
def test_a_cutoff_of_nothing_is_refused_before_it_ends_the_process(measure):
    with pytest.raises(ConfigError, match="cutoff must lie between 1 and"):
        evaluate({}, QRELS, [measure])


@pytest.mark.parametrize("measure", ["alpha_nDCG@10", "RBP(p=.8)@5", "ERR"])
def test_measures_that_need_what_is_not_here(measure):
    with pytest.raises(ConfigError, match="cannot be computed here"):
        evaluate({}, QRELS, [measure])


def test_grades_that_a_measure_does_not_take():
    with pytest.raises(ConfigError, match=r"ERR@20 cannot be computed on these judgments"):
        evaluate({"q": {"a": 1.0}}, {"q": {"a": 9}}, ["ERR@20"])


def test_any_measure_of_ir_measures_whatever_the_ids():
    """Names with spaces and a lone surrogate, which other tools could not read."""
    run = {"first query \ud800": {"a b": 3.0, "\ud800": 2.0, "c": 1.0}}
    qrels = {"first query \ud800": {"\ud800": 2, "c": 1, "not found": 1}, "other": {"x": 1}}
    values = evaluate(run, qrels, ["AP", "RR@10", "P@2", "R@100", "ERR@20", "P(rel=2)@2", "Success@1", "Judged@2"])
    first = {measure: by_query["first query \ud800"] for measure, by_query in values.items()}
    stop = [(2**grade - 1) / 16 for grade in (0, 2, 1)]  # gdeval's chance to be content with each document
    err = stop[1] / 2 + (1 - stop[1]) * stop[2] / 3
    expected = [(1 / 2 + 2 / 3) / 3, 1 / 2, 1 / 2, 2 / 3, err, 1 / 2, 0, 1 / 2]
    assert list(first.values()) == pytest.approx(expected, abs=1e-5)
    assert {by_query["other"] for by_query in values.values()} == {0.0}
    assert evaluate(run, qrels, ["MRR@10", "RR@10", "MAP@5", "AP@5"]).keys() == {"MRR@10", "RR@10", "MAP@5", "AP@5"}


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([0.1, 0.1 + 1e-12, 0.2, -1.0])),
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(-1, 3), min_size=1),
)
def test_values_are_those_of_trec_eval_on_the_run_as_it_stands(documents, judged):
    """Ties at the precision of a float32 and by descending id, as trec_eval itself breaks them."""
    names = {"nDCG@10": "ndcg_cut_10", "Recall@100": "recall_100", "MAP@5": "map_cut_5", "P@3": "P_3", "AP": "map"}
    grades = {"q": {document: max(grade, 0) for document, grade in judged.items()}}
    found = pytrec_eval.RelevanceEvaluator(grades, {*names.values()}).evaluate({"q": documents}).get("q", {})
    values = evaluate({"q": documents}, {"q": judged}, list(names))
    assert {m: v["q"] for m, v in values.items()} == {m: found.get(trec, 0.0) for m, trec in names.items()}


@settings(deadline=None)
@given(st.permutations(range(12)), st.sets(st.integers(0, 11), min_size=1))
def test_ties_keep_the_rankings_order(order, relevant):
    doc_ids = [f"d{i}" for i in range(12)]
    run = ranking_to_run(["q"], doc_ids, ranking(list(order)))
    values = evaluate(run, {"q": {f"d{i}": 1 for i in relevant}}, ["MRR@20", "nDCG@3"])
    first = min(order.index(i) for i in relevant)
    assert values["MRR@20"]["q"] == pytest.approx(1 / (first + 1))
    dcg = sum(1 / math.log2(r + 2) for r in range(3) if order[r] in relevant)
    ideal = sum(1 / math.log2(r + 2) for r in range(min(3, len(relevant))))
    assert values["nDCG@3"]["q"] == pytest.approx(dcg / ideal)


def test_short_and_empty_rankings():
    run = ranking_to_run(["q", "r"], ["a", "b", "c"], ranking([2, NO_DOCUMENT], [NO_DOCUMENT, NO_DOCUMENT]))
    assert {query: list(documents) for query, documents in run.items()} == {"q": ["c"], "r": []}


def test_a_document_listed_twice_is_refused():
    with pytest.raises(DataError, match="'q' lists a document twice"):
        ranking_to_run(["q"], ["a", "b"], ranking([0, 1, 0]))


def test_evaluate_ranking_follows_the_order_of_the_queries():
    queries = QuerySet(["q2", "q1"], ["two", "one"], QRELS)
    values = evaluate_ranking(ranking([1, 0], [0, 1]), queries, ["a", "x"])
    assert values["MRR@10"].tolist() == [1, 1]
    assert values["Recall@100"].tolist() == [1, 0.5]


def test_evaluate_ranking_refuses_unjudged_queries():
    queries = QuerySet(["q1", "new"], ["one", "new"], QRELS)
    with pytest.raises(DataError, match=r"1 of 2 queries have no human judgments \(first: 'new'\)"):
        evaluate_ranking(ranking([0], [0]), queries, ["a"])
