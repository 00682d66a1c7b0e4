"""What an evaluation or a sweep found, as files: tables, every query, every ranking. Same inputs, same bytes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from searchrl.data.dataset import QuerySet
from searchrl.data.trec import TrecRun, write_trec_run
from searchrl.errors import DataError
from searchrl.evaluation.comparison import ComparisonTable, MethodResult
from searchrl.evaluation.measures import ranked_ids
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
    details: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write ``{method}.run`` for each ranking, ``per_query.jsonl``, and last ``results.json``; return their paths.

    queries: the n that were evaluated, in order. doc_ids: the corpus's ids by index. details: JSON values that say
    what was evaluated (dataset, split, settings); no times, or the files would differ from run to run. Each file
    appears whole or not at all, and ``results.json`` only after all others. Raises DataError if the table has another
    number of queries, or a method's name cannot name a file; OutputError if the folder cannot be written.
    """
    n = len(table.methods[0].steps)
    if len(queries) != n:
        raise DataError(f"the results are of {n} queries, {len(queries)} were given")
    for method in table.methods:
        if not re.fullmatch(r"\w[\w.+-]*", method.name):
            raise DataError(f"method name {method.name!r} cannot name a file: use letters, digits and . _ + -")
    paths = []
    for method in table.methods:
        if method.ranking is not None:
            paths.append(folder / f"{method.name}.run")
            write_trec_run(paths[-1], _trec_run(method.name, method.ranking, queries, doc_ids))
    paths += [folder / PER_QUERY_FILE, folder / RESULTS_FILE]
    write_text(paths[-2], "".join(_json(_query_record(table, queries, i)) + "\n" for i in range(n)))
    write_text(paths[-1], _json({"details": dict(details or {}), **table.to_json()}, indent=1) + "\n")
    return paths


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
        means = [{**result.means, **_costs(result)} for result in results.values()]
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
        rows = [[name, *(number(c[s], _format(name, s)) for s in shown)] for name, c in of.items()]
        return text_table([self.setting, *shown], rows)

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


def _trec_run(tag: str, ranking: Ranking, queries: QuerySet, doc_ids: Sequence[str]) -> TrecRun:
    names = ranked_ids(doc_ids, ranking)
    scores = ranking.scores.tolist()
    rankings = {q: list(zip(d, s, strict=False)) for q, d, s in zip(queries.ids, names, scores, strict=True)}
    return TrecRun(tag, rankings)


def _query_record(table: ComparisonTable, queries: QuerySet, i: int) -> dict[str, Any]:
    """One line of ``per_query.jsonl``: actions are ids, absent where the method has expected values only."""
    methods: dict[str, dict[str, Any]] = {}
    for method in table.methods:
        costs = {"steps": method.steps, "searches": method.searches, "lm_calls": method.lm_calls}
        values = {**method.metrics, **costs}
        methods[method.name] = {name: json_number(float(array[i])) for name, array in values.items()}
        if method.actions is not None:
            methods[method.name]["actions"] = [int(action) for action in method.actions[i]]
    return {"query_id": queries.ids[i], "text": queries.texts[i], "methods": methods}


def _json(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    # A lone surrogate, which JSON input can carry, has no UTF-8 form; its escape is the same string in JSON.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _costs(result: MethodResult) -> dict[str, float]:
    arrays = (result.searches, result.lm_calls, result.steps)
    return {name: float(np.mean(array)) for name, array in zip(COSTS, arrays, strict=True)}


def _format(row: str, column: str) -> str:
    return ".2f" if column in COSTS and row != "sd" else ".4f"
