"""JSON Lines, JSON and other line-based files, read so that each fault can be traced to its file and line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from searchrl.errors import DataError
from searchrl.files import load_json, write_text

GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


def at(path: Path, number: int) -> str:
    """How messages name a place: ``corpus.jsonl, line 12``, with the full path."""
    return f"{path}, line {number}"


class Line(NamedTuple):
    """One line of a file that is not blank, without its end."""

    number: int
    """From 1."""
    start: int
    """Bytes of the unpacked file that stand before it."""
    text: str


def lines(path: Path) -> Iterator[Line]:
    """Read a file line by line, blank ones left out.

    UTF-8 with or without byte order mark; LF or CRLF; packed by gzip or not. Raises ``DataError`` if the file is
    missing, unreadable or not UTF-8.
    """
    start = 0
    try:
        with open_bytes(path) as file:
            for number, raw in enumerate(file, start=1):
                mark = len(_BOM) if number == 1 and raw.startswith(_BOM) else 0
                try:
                    line = raw[mark:].decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise DataError(f"{at(path, number)}: not UTF-8 text ({error.reason})") from error
                if line.strip():
                    yield Line(number, start + mark, line)
                start += len(raw)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without its line end) of every line that is not blank. Raises as ``lines``."""
    return ((line.number, line.text) for line in lines(path))


def plain_or_gz(path: Path) -> Path:
    """A file, or the same with ``.gz`` behind its name where only that is there; both are read alike."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if not path.exists() and packed.exists() else path


def is_packed(path: Path) -> bool:
    """Whether a file can be read, and is packed by gzip, whatever it is called."""
    try:
        with open(path, "rb") as file:
            return file.read(len(GZIP)) == GZIP
    except OSError:
        return False


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
    return ((line.number, _object(path, line)) for line in lines(path))


def _object(path: Path, line: Line) -> dict[str, Any]:
    try:
        value = load_json(line.text)
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise DataError(f"{at(path, line.number)}: not JSON ({reason}): {line.text[:60]!r}") from error
    if not isinstance(value, dict):
        raise DataError(f"{at(path, line.number)}: a JSON object is expected here, not {type(value).__name__}")
    return value


Document = tuple[str, str, str]
"""Id, title, text."""


def documents(path: Path) -> Iterator[tuple[Line, Document]]:
    """Read a file of records, a JSON object a line; other fields are ignored, a missing title is empty.

    Raises ``DataError`` that names file and line: no JSON object, ``_id`` or ``text`` missing or not a string, an id
    seen before; and if there are no records at all.
    """
    numbers: dict[str, int] = {}
    for line in lines(path):
        place, record = at(path, line.number), _object(path, line)
        for name in ("_id", "text"):
            if name not in record:
                raise DataError(f"{place}: the field {name!r} is missing; found {', '.join(record) or 'nothing'}")
        record_id = checked_id(record["_id"], "'_id'", place)
        if (before := numbers.setdefault(record_id, line.number)) != line.number:
            raise DataError(f"{place}: the id {record_id!r} was used before, in line {before}")
        title = record.get("title")
        title = "" if title is None else checked_text(title, "'title'", place)
        yield line, (record_id, title, checked_text(record["text"], "'text'", place))
    if not numbers:
        raise DataError(f"{path}: empty; one JSON object a line is expected, with '_id' and 'text'")


def document_of(line: bytes) -> Document:
    """A line again that ``documents`` has read before."""
    record = load_json(line)
    return record["_id"], record.get("title") or "", record["text"]


def read_records(path: Path) -> dict[str, dict[str, str]]:
    """Read id -> ``{"title", "text"}`` in file order. Raises as ``documents``."""
    return {record_id: {"title": title, "text": text} for _, (record_id, title, text) in documents(path)}


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
