"""JSON arrays of objects: how the stages of the preference pipeline hand records to each other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from searchrl.data.records import checked_text, read_json
from searchrl.errors import DataError
from searchrl.files import write_text


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
