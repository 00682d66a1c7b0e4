"""What a search gives back, and how it is written to a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from searchrl.errors import ConfigError
from searchrl.files import write_text
from searchrl.models.language_model import FloatArray
from searchrl.retrieval.ranking import IntArray


class _Found(TypedDict):
    key_id: int
    key: str


class FoundKey(_Found, total=False):
    """One key of a ranking: its position among the keys, its text, and its relevance where that was asked for."""

    relevance: float


class SearchResult(TypedDict):
    """A query with its keys, best first; ``query_id`` is its position among the queries."""

    query: str
    query_id: int
    keys: list[FoundKey]


def ranked(
    query_id: int,
    query: str,
    keys: Sequence[str],
    key_ids: IntArray,
    scores: FloatArray,
    k: int | None,
    relevance: bool,
) -> SearchResult:
    """The k keys (None: all) of the highest score, equal ones by the lower id.

    key_ids, scores: (m,) what was scored.
    """
    best = np.lexsort((key_ids, -scores))[:k]
    found: list[FoundKey] = []
    for i in best:
        entry: FoundKey = {"key_id": int(key_ids[i]), "key": keys[key_ids[i]]}
        if relevance:
            entry["relevance"] = float(scores[i])
        found.append(entry)
    return {"query": query, "query_id": query_id, "keys": found}


COLUMNS = ("query_id", "query", "rank", "key_id", "key", "relevance")


def write_results(path: Path, results: Sequence[SearchResult]) -> None:
    """Write results whole or not at all: ``.json`` one list, ``.jsonl`` a line a query, ``.csv`` a row a key.

    Raises ConfigError on another ending, OutputError where the file cannot be written.
    """
    if path.suffix == ".json":
        text = _json(results, indent=1)
    elif path.suffix == ".jsonl":
        text = "".join(_json(result) for result in results)
    elif path.suffix == ".csv":
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerow(COLUMNS)
        for result in results:
            for rank, found in enumerate(result["keys"], start=1):
                row = {**found, "query_id": result["query_id"], "query": result["query"], "rank": rank}
                writer.writerow([row.get(column, "") for column in COLUMNS])
        text = table.getvalue().encode("utf-8", "replace").decode("utf-8")
    else:
        raise ConfigError(f"{path}: results are written as .json, .jsonl or .csv; choose one of these endings")
    write_text(path, text)


def _json(value: object, indent: int | None = None) -> str:
    """One line, or indented; letters as they are, except in texts with lone surrogates, which no file can hold."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent)
    return f"{text}\n"
