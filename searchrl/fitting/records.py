"""JSON arrays of objects: how the stages hand records to each other.

``query_recs.json``: ``query``, ``df_id`` (the document's row), ``query-type``. ``relevance_records_embed.json``: the
same with ``query_id`` (its place) and ``keys``, an array of ``{"key_id", "score"}``, best first; texts of keys are not
repeated there, they stand in the table of documents. ``sampled_query_key_set.json``: ``query``, ``key_ids``, ``keys``
(their texts) and ``origins`` (where each is from).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searchrl.data.records import checked_text, read_json
from searchrl.errors import DataError
from searchrl.files import write_text
from searchrl.queries.writing import QueryRec
from searchrl.retrieval.ranking import NO_DOCUMENT, Ranking


@dataclass(frozen=True)
class RankedKeys:
    """A query and the rows of the documents found for it, best first."""

    rec: QueryRec
    key_ids: Sequence[int]
    query_id: int


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON array with a record a line, whole or not at all."""
    write_text(path, "[\n" + ",\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n]\n")


def read_records(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Read (place for error messages, object) of a JSON array of objects.

    Raises DataError naming the file where it is missing, not such an array, or empty.
    """
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise DataError(f"{path}: a JSON array of objects is expected")
    if not content:
        raise DataError(f"{path}: holds no records")
    return [(f"{path}, record {number}", record) for number, record in enumerate(content, start=1)]


def text_field(record: Mapping[str, Any], name: str, place: str) -> str:
    """A field that must be a text with something in it."""
    text = checked_text(record.get(name), repr(name), place)
    if not text.strip():
        raise DataError(f"{place}: {name!r} is empty")
    return text


def checked_texts(record: Mapping[str, Any], name: str, place: str) -> list[str]:
    """A field that must be a list of texts with something in them."""
    values = record.get(name)
    if not isinstance(values, list):
        raise DataError(f"{place}: {name!r} must be a list of texts")
    return [text_field({name: value}, name, place) for value in values]


def number_field(record: Mapping[str, Any], name: str, place: str, below: int) -> int:
    """A field that must be an integer from 0, below a limit."""
    value = record.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < below:
        raise DataError(f"{place}: {name!r} is {value!r}; a row's number, 0 to {below - 1}, is expected")
    return value


def family_of(record: Mapping[str, Any]) -> str:
    """The document that a record's queries were written from; empty where it does not say."""
    return f"df_id {record['df_id']}" if isinstance(record.get("df_id"), (int, str)) else ""


def group_of(record: Mapping[str, Any], text: str) -> str:
    """What a record is about: its query's id, else its document's row, else the text itself."""
    for name in ("query_id", "df_id"):
        if isinstance(record.get(name), (int, str)):
            return f"{name} {record[name]}"
    return text


def read_query_recs(path: Path, rows: int | None = None) -> list[QueryRec]:
    """Read ``query_recs.json``, or any array of objects with a ``query``.

    rows: documents there are; None where ids are not to be checked. Raises DataError naming file and record.
    """
    return [_query_rec(record, place, 2**31 if rows is None else rows) for place, record in read_records(path)]


def write_relevance(path: Path, recs: Sequence[QueryRec], ranking: Ranking) -> None:
    """Write the rankings of queries, (n, depth)."""
    records = []
    for i, rec in enumerate(recs):
        found = zip(ranking.documents[i].tolist(), ranking.scores[i].tolist(), strict=True)
        keys = [{"key_id": key, "score": round(score, 6)} for key, score in found if key != NO_DOCUMENT]
        records.append({"query_id": i, **rec.record(), "keys": keys})
    write_records(path, records)


def read_relevance(path: Path, rows: int) -> list[RankedKeys]:
    """Read rankings of ``rows`` documents. Raises DataError naming file and record."""
    ranked = []
    for number, (place, record) in enumerate(read_records(path)):
        keys: Any = record.get("keys")
        if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
            raise DataError(f"{place}: 'keys' must be an array of objects with a 'key_id'")
        rec = _query_rec(record, place, rows)
        ids = list(dict.fromkeys(number_field(key, "key_id", place, rows) for key in keys))
        ranked.append(RankedKeys(rec, ids, number))
    return ranked


def read_sampled(path: Path) -> list[dict[str, Any]]:
    """Read records with as many ``key_ids`` and ``origins`` as ``keys``, two at least. Raises DataError."""
    records = []
    for place, record in read_records(path):
        keys = checked_texts(record, "keys", place)
        ids, origins = record.get("key_ids"), record.get("origins", ["unknown"] * len(keys))
        if len(keys) < 2 or any(not isinstance(part, list) or len(part) != len(keys) for part in (ids, origins)):
            raise DataError(f"{place}: two 'keys' at least are expected, and as many 'key_ids' and 'origins'")
        query = text_field(record, "query", place)
        records.append({**record, "query": query, "query_id": record.get("query_id", query), "origins": origins})
    return records


def _query_rec(record: Mapping[str, Any], place: str, rows: int) -> QueryRec:
    df_id = number_field(record, "df_id", place, rows) if record.get("df_id") is not None else None
    return QueryRec(text_field(record, "query", place), df_id, str(record.get("query-type", "")))
