"""Measures of rankings against human judgments, query by query: every measure that ir_measures knows, by its name.

nDCG, precision, recall, average precision and the like come from trec_eval through pytrec_eval, ERR from TREC's gdeval.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from searchrl.data.dataset import Qrels, QuerySet
from searchrl.errors import ConfigError, DataError, nearest
from searchrl.retrieval.ranking import NO_DOCUMENT, Ranking

if TYPE_CHECKING:
    import ir_measures

MEASURES = ("nDCG@10", "Recall@100", "MRR@10")
"""What every table shows unless told otherwise."""

COMMON = ("nDCG", "AP", "RR", "P", "R", "ERR", "Success", "Rprec", "Bpref", "Judged", "MAP", "MRR", "Recall")
"""Names that an error message lists; ``ir_measures`` has more."""

Run = Mapping[str, Mapping[str, float]]
"""query id -> document id -> score: a ranking file in memory."""


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str] = MEASURES) -> dict[str, dict[str, float]]:
    """Score a run against human judgments: measure -> query id -> value, queries in the order of ``qrels``.

    measures: names as ir_measures reads them: ``nDCG@10``, ``AP``, ``RR@10``, ``P(rel=2)@5``, ``R@100``, ``ERR@20``.
    A grade of 1 or more is relevant unless the measure says otherwise; one below 0 counts as 0. Every query in
    ``qrels`` counts: one that the run lacks scores 0; queries without judgments are left out. Documents are ordered as
    trec_eval orders them: by score as float32, ties by document id, descending. Inputs are not changed. Raises
    ConfigError on an unknown measure, or one that cannot be computed here. Sources: Van Gysel and de Rijke (2018),
    "Pytrec_eval"; MacAvaney, Macdonald and Ounis (2022), "Streamlining evaluation with ir-measures".
    """
    import ir_measures

    parsed = {name: parse_measure(name) for name in measures}
    grades, ranked, numbers = _plain(run, qrels)
    found: dict[ir_measures.Measure, dict[str, float]] = {measure: {} for measure in parsed.values()}
    try:
        for value in ir_measures.iter_calc(list(found), grades, ranked):
            found[value.measure][value.query_id] = float(value.value)
    except Exception as error:  # gdeval and others fail in their own ways, say where a grade is too high for them
        reason = " ".join(str(error).split())
        raise ConfigError(f"{', '.join(parsed)} cannot be computed on these judgments: {reason}") from error
    return {
        name: {query: found[measure].get(numbers[query], 0.0) for query in qrels} for name, measure in parsed.items()
    }


def parse_measure(name: str) -> ir_measures.Measure:
    """Read a measure's name. Raises ConfigError saying which names there are."""
    import ir_measures

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python's ast, for ir_measures' way to use it
            measure = ir_measures.parse_measure(name)
        measure.validate_params()  # type: ignore[no-untyped-call, unused-ignore]
    except (NameError, ValueError, TypeError, AssertionError, AttributeError) as error:
        valid = nearest(name.split("@")[0], COMMON)
        raise ConfigError(f"unknown measure {name!r}: write NAME@CUTOFF, as in nDCG@10; {valid}") from error
    if measure.params.get("cutoff", 1) < 1:  # pytrec_eval ends the process on it
        raise ConfigError(f"measure {name!r}: the cutoff must be at least 1")
    if not ir_measures.DefaultPipeline.supports(measure):  # type: ignore[no-untyped-call, unused-ignore]
        raise ConfigError(f"measure {name!r} cannot be computed here; nDCG@10, AP, RR@10, P@5, R@100 and ERR@20 can")
    return measure


def _plain(run: Run, qrels: Qrels) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]], dict[str, str]]:
    """Judgments and run with numbers for ids, and ties broken, so that every provider reads and orders them alike.

    gdeval wants numbers for queries, other providers break ties otherwise than trec_eval, and pytrec_eval 0.5 corrupts
    memory on some grades below 0. Returns (judgments, run, query id -> number).
    """
    grades: dict[str, dict[str, int]] = {}
    ranked: dict[str, dict[str, float]] = {}
    numbers: dict[str, str] = {}
    for i, (query, judged) in enumerate(qrels.items(), start=1):
        numbers[query] = number = str(i)
        documents = run.get(query, {})
        scores = np.fromiter(documents.values(), dtype=np.float32, count=len(documents)).tolist()
        order = sorted(zip(scores, documents, strict=True), reverse=True)
        name = {document: f"d{place}" for place, (_, document) in enumerate(order)}
        if order:
            ranked[number] = {name[document]: float(len(order) - place) for place, (_, document) in enumerate(order)}
        grades[number] = {
            name.get(document, f"u{j}"): max(grade, 0) for j, (document, grade) in enumerate(judged.items())
        }
    return grades, ranked, numbers


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
