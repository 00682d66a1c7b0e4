"""What is written of an evaluation or a sweep (tables, every query, every ranking), and the files of the BEIR stages.

Same inputs, same bytes. The stages' records: a JSON array with an object a query, ``query_id``, ``key_ids`` (best
first), ``scores``, ``positive_key_ids``; ids are the collection's own. Evaluation file: one JSON object, query id ->
document id -> score, as pytrec_eval and beir take it; beside it the same as a TREC run, and what it measures.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from searchrl.data.dataset import Qrels, QuerySet
from searchrl.data.records import checked_id, read_json
from searchrl.data.trec import TrecRun, read_trec_run, write_trec_run
from searchrl.errors import DataError
from searchrl.evaluation.comparison import ComparisonTable, MethodResult
from searchrl.evaluation.measures import evaluate, ranked_ids
from searchrl.evaluation.text_table import json_number, number, text_table
from searchrl.files import write_text
from searchrl.retrieval.ranking import Ranking

RESULTS_FILE = "results.json"
PER_QUERY_FILE = "per_query.jsonl"

SEED = "seed"
COSTS = ("searches", "LM calls", "steps")
QUALITY = "nDCG@10"


def write_results(
    folder: Path,
    table: ComparisonTable,
    queries: QuerySet,
    doc_ids: Sequence[str],
    details: Mapping[str, Any],
) -> None:
    """Write ``{method}.run`` for each ranking, ``per_query.jsonl``, and last ``results.json``.

    queries: the n that were evaluated, in order. doc_ids: the corpus's ids by index. details: JSON values that say
    what was evaluated (dataset, split, settings); no times, or the files would differ from run to run. Each file
    appears whole or not at all. Raises OutputError if the folder cannot be written.
    """
    for method in table.methods:
        run = _run(method.name, ranked_queries(queries.ids, doc_ids, method.ranking))
        write_trec_run(folder / f"{method.name}.run", run)
    records = [_query_record(table, queries, i) for i in range(len(queries))]
    write_text(folder / PER_QUERY_FILE, "".join(_json(record) + "\n" for record in records))
    write_text(folder / RESULTS_FILE, _json({"details": details, **table.to_json()}, indent=1) + "\n")


@dataclass(frozen=True)
class SweepRow:
    """One value: as it is written in flags, its run's folder in the sweep's, what its policy did on the dev queries.

    columns: means over the queries: measures by name, then ``COSTS`` per query. Of several collections each counts the
    same, and each one's nDCG@10 stands under its name, too (``scifact nDCG@10``).
    """

    value: str
    run: str
    columns: Mapping[str, float]

    @classmethod
    def of(cls, value: str, run: str, results: Mapping[str, MethodResult]) -> SweepRow:
        """Average a policy's results on one or more collections, by name."""
        means = []
        for result in results.values():
            costs = zip(COSTS, (result.searches, result.lm_calls, result.steps), strict=True)
            means.append({**result.means, **{name: float(np.mean(values)) for name, values in costs}})
        shared = [name for name in means[0] if all(name in others for others in means)]
        columns = {name: float(np.mean([one[name] for one in means])) for name in shared}
        if len(results) > 1:
            columns |= {
                f"{name} {QUALITY}": one[QUALITY] for name, one in zip(results, means, strict=True) if QUALITY in one
            }
        return cls(value, run, columns)


@dataclass(frozen=True)
class SweepTable:
    """One row per value, as text (``str``), CSV and JSON values. setting: the flag that was swept, without dashes."""

    setting: str
    rows: Sequence[SweepRow]

    @property
    def spread(self) -> dict[str, dict[str, float]]:
        """Of seeds, column -> mean, sd (of a sample, NaN for one seed), min, max; of other settings nothing."""
        if self.setting != SEED or not self.rows:
            return {}
        found = {}
        for name in self.rows[0].columns:
            values = np.array([row.columns[name] for row in self.rows])
            sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
            found[name] = {
                "mean": float(values.mean()),
                "sd": sd,
                "min": float(values.min()),
                "max": float(values.max()),
            }
        return found

    def __str__(self) -> str:
        shown = [name for name in self.rows[0].columns if name in COSTS or name.endswith(QUALITY)]
        spread = self.spread
        of = {row.value: row.columns for row in self.rows}
        of |= {kind: {c: spread[c][kind] for c in spread} for kind in next(iter(spread.values()), ())}

        def cell(row: str, column: str) -> str:
            return number(of[row][column], ".2f" if column in COSTS and row != "sd" else ".4f")

        return text_table([self.setting, *shown], [[row, *(cell(row, column) for column in shown)] for row in of])

    def to_csv(self) -> str:
        """One line per value under a header; numbers unrounded."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([self.setting, "run", *self.rows[0].columns])
        writer.writerows([row.value, row.run, *row.columns.values()] for row in self.rows)
        return buffer.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values; ``value`` is a number."""
        return {
            "setting": self.setting,
            "rows": [{"value": float(row.value), "run": row.run, **row.columns} for row in self.rows],
            "spread": {name: {k: json_number(v) for k, v in kinds.items()} for name, kinds in self.spread.items()},
        }


def _query_record(table: ComparisonTable, queries: QuerySet, i: int) -> dict[str, Any]:
    """One line of ``per_query.jsonl``; actions are ids."""
    methods: dict[str, dict[str, Any]] = {}
    for method in table.methods:
        costs = {"steps": method.steps, "searches": method.searches, "lm_calls": method.lm_calls}
        values = {**method.metrics, **costs}
        methods[method.name] = {name: json_number(float(array[i])) for name, array in values.items()}
        methods[method.name]["actions"] = [int(action) for action in method.actions[i]]
    return {"query_id": queries.ids[i], "text": queries.texts[i], "methods": methods}


def _json(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    # A lone surrogate, which JSON input can carry, has no UTF-8 form; its escape is the same string in JSON.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


Values = Mapping[str, Mapping[str, float]]
"""Measure -> query id -> value, as ``measures.evaluate`` gives them."""


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
    for row, record in enumerate(content, start=1):
        place = f"{path}, record {row}"
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
