"""What the BEIR stages hand to each other, as files.

Records: a JSON array with an object a query, ``query_id``, ``key_ids`` (best first), ``scores``, ``positive_key_ids``;
ids are the collection's own. Evaluation file: one JSON object, query id -> document id -> score, as pytrec_eval and
beir take it; beside it the same as a TREC run, and what it measures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from searchrl.data.dataset import Qrels
from searchrl.data.records import checked_id, read_json
from searchrl.data.trec import TrecRun, read_trec_run, write_trec_run
from searchrl.errors import DataError
from searchrl.evaluation.measures import evaluate, ranked_ids
from searchrl.files import write_text
from searchrl.retrieval.ranking import Ranking

Values = Mapping[str, Mapping[str, float]]
"""Measure -> query id -> value, as ``metrics.evaluate`` gives them."""


@dataclass(frozen=True)
class RankedQuery:
    """One query's documents, best first: ids and scores, which do not increase."""

    query_id: str
    key_ids: Sequence[str]
    scores: Sequence[float]


def positives(qrels: Qrels, query_id: str) -> list[str]:
    """The documents that people judged relevant to a query, in the order of the judgments."""
    return [key_id for key_id, grade in qrels.get(query_id, {}).items() if grade > 0]


def ranked_queries(query_ids: Sequence[str], doc_ids: Sequence[str], ranking: Ranking) -> list[RankedQuery]:
    """Name the queries and documents of n rankings. doc_ids: the corpus's ids by index."""
    names = ranked_ids(doc_ids, ranking)
    scores = ranking.scores.tolist()
    return [RankedQuery(q, d, s[: len(d)]) for q, d, s in zip(query_ids, names, scores, strict=True)]


def write_records(
    path: Path, ranked: Sequence[RankedQuery], qrels: Qrels, more: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write records, a line each. more: further fields of each record."""
    records = [
        {
            "query_id": query.query_id,
            "key_ids": list(query.key_ids),
            "scores": list(query.scores),
            "positive_key_ids": positives(qrels, query.query_id),
            **(more[i] if more else {}),
        }
        for i, query in enumerate(ranked)
    ]
    write_text(path, "[\n" + ",\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n]\n")


def read_records(path: Path) -> list[RankedQuery]:
    """Read the rankings of a file of records.

    Raises DataError, naming file and query, where it is missing, no such file, or holds a ranking with an id twice,
    scores that increase, or another number of scores than documents.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path}: a JSON array of records is expected, which the embed stage writes to its `output`")
    ranked: dict[str, RankedQuery] = {}
    for number, record in enumerate(content, start=1):
        place = f"{path}, record {number}"
        if not isinstance(record, dict) or not isinstance(record.get("key_ids"), list):
            raise DataError(f"{place}: an object with 'query_id', 'key_ids' and 'scores' is expected")
        query_id = checked_id(record.get("query_id"), "'query_id'", place)
        scores = record.get("scores")
        if not isinstance(scores, list) or len(scores) != len(record["key_ids"]):
            raise DataError(f"{place}: 'scores' must be a list as long as 'key_ids'")
        documents = dict(_pairs(zip(record["key_ids"], scores, strict=True), place))
        if len(documents) != len(scores) or query_id in ranked:
            what = f"query {query_id!r}" if query_id in ranked else "a document of 'key_ids'"
            raise DataError(f"{place}: {what} is given twice")
        values = list(documents.values())
        if any(after > before for before, after in pairwise(values)):
            raise DataError(f"{place}: 'scores' increase; documents are expected best first")
        ranked[query_id] = RankedQuery(query_id, list(documents), values)
    if not ranked:
        raise DataError(f"{path}: holds no records")
    return list(ranked.values())


def judge(ranked: Sequence[RankedQuery], qrels: Qrels) -> Values:
    """Measure rankings on human judgments; equal scores keep the order they have here."""
    return evaluate(_run("", ranked).untied(), qrels)


def mean_values(values: Values) -> dict[str, float]:
    """Measure -> its mean over the judged queries."""
    return {measure: math.fsum(by_query.values()) / len(by_query) for measure, by_query in values.items()}


def evaluation_files(path: Path) -> tuple[Path, Path, Path]:
    """What ``write_evaluation`` writes: the evaluation file, the TREC run, the metrics."""
    return path, path.with_suffix(".run"), path.with_suffix(".metrics.json")


def write_evaluation(path: Path, ranked: Sequence[RankedQuery], qrels: Qrels, tag: str) -> dict[str, float]:
    """Write the evaluation file, ``NAME.run`` (a TREC run) and ``NAME.metrics.json`` beside it; return the means.

    Equal scores are pushed apart by the least a float32 can be, so that every tool keeps the order they had.
    """
    run, values = _run(tag, ranked), judge(ranked, qrels)
    path, run_path, metrics_path = evaluation_files(path)
    write_trec_run(run_path, run)
    write_metrics(metrics_path, {tag: values})
    write_text(path, json.dumps(run.untied(), ensure_ascii=False) + "\n")
    return mean_values(values)


def write_metrics(path: Path, systems: Mapping[str, Values]) -> None:
    """Write, for each system, its means and every query's values, as JSON."""
    content = {name: {"mean": mean_values(values), "per_query": values} for name, values in systems.items()}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_results(path: Path) -> dict[str, dict[str, float]]:
    """Read a ranking file of any kind here: query -> document -> score.

    What ends in ``.json`` is an evaluation file or records, everything else a TREC run. Raises DataError, naming file
    and place, where it is missing or damaged.
    """
    if path.suffix.lower() != ".json":
        return {query: dict(ranking) for query, ranking in read_trec_run(path).rankings.items()}
    content = read_json(path)
    if isinstance(content, list):
        return _run("records", read_records(path)).untied()
    if not isinstance(content, dict):
        raise DataError(f"{path}: an object, query id -> document id -> score, or an array of records is expected")
    results = {}
    for query_id, documents in content.items():
        place = f"{path}, query {checked_id(query_id, 'query id', str(path))!r}"
        if not isinstance(documents, dict):
            raise DataError(f"{place}: an object, document id -> score, is expected")
        results[query_id] = dict(_pairs(documents.items(), place))
    if not results:
        raise DataError(f"{path}: holds no rankings")
    return results


def _run(tag: str, ranked: Sequence[RankedQuery]) -> TrecRun:
    return TrecRun(tag, {query.query_id: list(zip(query.key_ids, query.scores, strict=True)) for query in ranked})


def _pairs(items: Any, place: str) -> list[tuple[str, float]]:
    """Document ids and finite scores, checked."""
    pairs = []
    for key_id, score in items:
        number = score if isinstance(score, (int, float)) and not isinstance(score, bool) else math.nan
        if not abs(number) <= 3.4e38:  # as a float32, which trec_eval keeps scores in; not true of NaN
            raise DataError(f"{place}: the score {str(score)[:40]} of document {key_id!r} is not a finite number")
        pairs.append((checked_id(key_id, "document id", place), float(number)))
    return pairs
