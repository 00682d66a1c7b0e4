"""``relevance_records_embed.json``: for each query the documents that a search returns, best first.

A record: ``query_id`` (its place), ``query``, ``df_id``, ``query-type``, and ``keys``, an array of ``{"key_id",
"score"}``. Texts of keys are not repeated here; they stand in the table of documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searchrl.errors import DataError
from searchrl.fitting.json_records import number_field, read_records, text_field, write_records
from searchrl.fitting.query_recs import QueryRec
from searchrl.retrieval.ranking import NO_DOCUMENT, Ranking


@dataclass(frozen=True)
class RankedKeys:
    """A query and the rows of the documents found for it, best first."""

    rec: QueryRec
    key_ids: Sequence[int]
    query_id: int


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
        df_id = number_field(record, "df_id", place, rows) if record.get("df_id") is not None else None
        rec = QueryRec(text_field(record, "query", place), df_id, str(record.get("query-type", "")))
        ids = list(dict.fromkeys(number_field(key, "key_id", place, rows) for key in keys))
        ranked.append(RankedKeys(rec, ids, number))
    return ranked
