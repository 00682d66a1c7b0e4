"""Retrieval metrics against human judgments, per query, as trec_eval computes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pytrec_eval
from numpy.typing import NDArray

from searchrl.data.dataset import Qrels, QuerySet
from searchrl.errors import ConfigError, DataError, nearest
from searchrl.retrieval.ranking import NO_DOCUMENT, Ranking

MEASURES = ("nDCG@10", "Recall@100", "MRR@10")

Run = Mapping[str, Mapping[str, float]]
"""query id -> document id -> score: a ranking file in memory."""

_TREC_NAMES = {"nDCG": "ndcg_cut", "Recall": "recall", "MRR": "recip_rank", "MAP": "map_cut", "P": "P"}


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str] = MEASURES) -> dict[str, dict[str, float]]:
    """Score a run against human judgments: measure -> query id -> value, queries in the order of ``qrels``.

    Measures are nDCG, Recall, MRR, MAP and P at a cutoff (``nDCG@10``). A grade of 1 or more is relevant. Every query
    in ``qrels`` counts: one that the run lacks scores 0; queries without judgments are left out. trec_eval orders by
    score as float32 and breaks ties by document id, descending. Inputs are not changed. Raises ConfigError on an
    unknown measure. Source: trec_eval, through pytrec_eval (Van Gysel and de Rijke 2018).
    """
    parsed = {measure: _parse(measure) for measure in measures}
    # Below 0 no measure here tells grades apart, and pytrec_eval 0.5 corrupts memory on some of them.
    grades = {query: {d: max(g, 0) for d, g in judged.items()} for query, judged in qrels.items()}
    evaluator = pytrec_eval.RelevanceEvaluator(grades, {trec for trec, _ in parsed.values()}, relevance_level=1)
    found = evaluator.evaluate({query: dict(documents) for query, documents in run.items() if query in qrels})
    result: dict[str, dict[str, float]] = {}
    for measure, (trec, cutoff) in parsed.items():
        key = trec.replace(".", "_")
        values = {query: float(found[query][key]) if query in found else 0.0 for query in qrels}
        if key == "recip_rank":  # trec_eval has no cutoff for it: 1 / rank below 1 / cutoff lies past the cutoff
            values = {query: value if value * cutoff > 1 - 1e-9 else 0.0 for query, value in values.items()}
        result[measure] = values
    return result


def ranking_to_run(query_ids: Sequence[str], doc_ids: Sequence[str], ranking: Ranking) -> dict[str, dict[str, float]]:
    """Name a ranking's queries and documents, for ``evaluate`` and for TREC files.

    query_ids: n ids. doc_ids: the corpus's ids by index. Scores count down by 1 from the ranking's depth: what the
    retriever scored alike stays in the order given, which trec_eval's tie-breaking would otherwise change. Raises
    DataError on a document listed twice.
    """
    names = ranked_ids(doc_ids, ranking)
    scores = np.arange(ranking.documents.shape[1], 0, -1, dtype=np.float64).tolist()
    run: dict[str, dict[str, float]] = {}
    for query, documents in zip(query_ids, names, strict=True):
        run[query] = dict(zip(documents, scores, strict=False))
        if len(run[query]) < len(documents):
            raise DataError(f"the ranking of query {query!r} lists a document twice")
    return run


def ranked_ids(doc_ids: Sequence[str], ranking: Ranking) -> list[list[str]]:
    """Document ids of each of n rankings, best first, without the empty tail. doc_ids: the corpus's ids by index."""
    names = np.asarray(doc_ids, dtype=object)[ranking.documents].tolist()
    lengths = (ranking.documents != NO_DOCUMENT).sum(axis=1).tolist()
    return [documents[:length] for documents, length in zip(names, lengths, strict=True)]


def evaluate_ranking(
    ranking: Ranking, queries: QuerySet, doc_ids: Sequence[str], measures: Sequence[str] = MEASURES
) -> dict[str, NDArray[np.float64]]:
    """Score the ranking of each of n queries: measure -> (n,) in the order of ``queries``.

    Raises DataError if a query has no judgments: it has no score, and 0 would be wrong.
    """
    unjudged = [query for query in queries.ids if query not in queries.qrels]
    if unjudged:
        raise DataError(
            f"{len(unjudged)} of {len(queries)} queries have no human judgments (first: {unjudged[0]!r}); "
            "evaluate on judged queries only"
        )
    values = evaluate(ranking_to_run(queries.ids, doc_ids, ranking), queries.qrels, measures)
    return {measure: np.array([by_query[query] for query in queries.ids]) for measure, by_query in values.items()}


def _parse(measure: str) -> tuple[str, int]:
    """Return trec_eval's name and the cutoff: ``nDCG@10`` -> ("ndcg_cut.10", 10)."""
    match = re.fullmatch(r"(\w+)@([1-9]\d*)", measure)
    if match is None or match[1] not in _TREC_NAMES:
        valid = nearest(measure.split("@")[0], _TREC_NAMES)
        raise ConfigError(f"unknown measure {measure!r}: write NAME@CUTOFF, as in nDCG@10; {valid}")
    name, cutoff = _TREC_NAMES[match[1]], int(match[2])
    return (name if name == "recip_rank" else f"{name}.{cutoff}"), cutoff
