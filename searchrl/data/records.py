"""Read ``corpus.jsonl`` and ``queries.jsonl`` of the BEIR layout (Thakur et al. 2021, arXiv:2104.08663)."""

from __future__ import annotations

from pathlib import Path

from searchrl.data.lines import at, checked_id, checked_text, read_jsonl
from searchrl.errors import DataError


def read_records(path: Path) -> dict[str, dict[str, str]]:
    """Read id -> ``{"title", "text"}`` in file order; other fields are ignored, a missing title is empty.

    Raises ``DataError`` that names file and line: no JSON object, ``_id`` or ``text`` missing or not a string, an id
    seen before; and if there are no records at all.
    """
    records: dict[str, dict[str, str]] = {}
    lines: dict[str, int] = {}
    for number, record in read_jsonl(path):
        place = at(path, number)
        for name in ("_id", "text"):
            if name not in record:
                raise DataError(f"{place}: the field {name!r} is missing; found {', '.join(record) or 'nothing'}")
        record_id = checked_id(record["_id"], "'_id'", place)
        if record_id in records:
            raise DataError(f"{place}: the id {record_id!r} was used before, in line {lines[record_id]}")
        title = record.get("title")
        records[record_id] = {
            "title": "" if title is None else checked_text(title, "'title'", place),
            "text": checked_text(record["text"], "'text'", place),
        }
        lines[record_id] = number
    if not records:
        raise DataError(f"{path}: empty; one JSON object a line is expected, with '_id' and 'text'")
    return records
