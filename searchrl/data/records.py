"""JSON Lines, JSON and other line-based files, read so that each fault can be traced to its file and line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from searchrl.errors import DataError
from searchrl.files import load_json, write_text

GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


def at(path: Path, number: int) -> str:
    """How messages name a place: ``corpus.jsonl, line 12``, with the full path."""
    return f"{path}, line {number}"


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without its line end) of every line that is not blank.

    UTF-8 with or without byte order mark; LF or CRLF; packed by gzip or not. Raises ``DataError`` if the file is
    missing, unreadable or not UTF-8.
    """
    try:
        with open_bytes(path) as file:
            for number, raw in enumerate(file, start=1):
                if number == 1:
                    raw = raw.removeprefix(_BOM)
                try:
                    line = raw.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise DataError(f"{at(path, number)}: not UTF-8 text ({error.reason})") from error
                if line.strip():
                    yield number, line
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def plain_or_gz(path: Path) -> Path:
    """A file, or the same with ``.gz`` behind its name where only that is there; both are read alike."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if not path.exists() and packed.exists() else path


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file to be read, unpacked where it is packed by gzip, whatever it is called."""
    file = open(path, "rb")  # noqa: SIM115
    if file.peek(len(GZIP))[: len(GZIP)] != GZIP:
        return file
    unpacked: Any = gzip.GzipFile(fileobj=file)
    unpacked.myfileobj = file  # closed with it
    return cast(IO[bytes], unpacked)


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked. Raises ``DataError`` if it is missing, unreadable or damaged."""
    try:
        with open_bytes(path) as file:
            return file.read()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSON Lines file. Raises ``DataError`` on a line that is not a JSON object."""
    for number, line in numbered_lines(path):
        try:
            value = load_json(line)
        except ValueError as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
            raise DataError(f"{at(path, number)}: not JSON ({reason}): {line[:60]!r}") from error
        if not isinstance(value, dict):
            raise DataError(f"{at(path, number)}: a JSON object is expected here, not {type(value).__name__}")
        yield number, value


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


def write_jsonl(path: Path, records: Iterable[object]) -> None:
    """Write one JSON value a line, atomically."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def checked_id(value: object, what: str, place: str) -> str:
    """An identifier that every file format can carry: a non-empty string without whitespace.

    TREC run and qrels files are separated by whitespace, so such an id could be read but never reported.
    """
    if not isinstance(value, str):
        hint = f'; write "{value}"' if isinstance(value, int) else ""
        raise DataError(f"{place}: {what} must be a string, not {type(value).__name__}{hint}")
    if not value or value.split() != [value]:
        raise DataError(f"{place}: {what} {value!r} must be non-empty and without whitespace")
    return checked_text(value, what, place)


def checked_text(value: object, what: str, place: str) -> str:
    """A string that can be encoded; a JSON file can smuggle in half a surrogate pair, which no tokenizer accepts."""
    if not isinstance(value, str):
        raise DataError(f"{place}: {what} must be a string, not {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(f"{place}: {what} holds {value[error.start]!a}, half of a surrogate pair") from error
    return value


def read_json(path: Path) -> Any:
    """Read what one JSON file holds. Raises DataError naming the file where it cannot be read or is not JSON."""
    try:
        return load_json(read_bytes(path).decode("utf-8-sig"))
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise DataError(f"{path}: not JSON ({reason})") from error
