"""An evaluation as files: the table, every query, every ranking. The same inputs give the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from searchrl.data.dataset import QuerySet
from searchrl.data.trec import TrecRun, write_trec_run
from searchrl.errors import DataError
from searchrl.evaluation.comparison import ComparisonTable
from searchrl.evaluation.metrics import ranked_ids
from searchrl.evaluation.text_table import json_number
from searchrl.files import write_text
from searchrl.retrieval.ranking import Ranking

RESULTS_FILE = "results.json"
PER_QUERY_FILE = "per_query.jsonl"


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
