"""TREC topics: queries as TREC gives them out, in its own markup, in XML, or an id, a tab and a text a line."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from searchrl.data.records import at, checked_id, checked_text, numbered_lines, read_bytes
from searchrl.errors import DataError
from searchrl.text import squeezed

NAMES = ("topics.tsv", "topics.txt", "topics.trec", "topics.xml")

_TOPIC = re.compile(r"<top(?:ic)?\b([^>]*)>(.*?)</top(?:ic)?>", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"<num>\s*(?:Number:)?\s*([^\s<]+)", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""\b(?:number|id)\s*=\s*["']([^"']+)["']""", re.IGNORECASE)


def read_topics(path: Path) -> dict[str, str]:
    """Query id -> text: the title of a topic, or its query where it has none. Packed by gzip or not.

    Raises ``DataError``, with file and line or topic, where that is not possible.
    """
    beginning = read_bytes(path).lstrip()[:1]
    topics = _marked(path) if beginning == b"<" else _lines(path)
    if not topics:
        raise DataError(f"{path}: holds no topics")
    return topics


def _lines(path: Path) -> dict[str, str]:
    topics: dict[str, str] = {}
    for number, line in numbered_lines(path):
        place = at(path, number)
        query_id, tab, text = line.partition("\t")
        if not tab:
            raise DataError(f"{place}: an id, a tab and a text are expected: {line[:60]!r}")
        _enter(topics, query_id.strip(), text, place)
    return topics


def _marked(path: Path) -> dict[str, str]:
    topics: dict[str, str] = {}
    content = "\n".join(line for _, line in numbered_lines(path))
    for count, (attributes, inside) in enumerate(_TOPIC.findall(content), start=1):
        place = f"{path}, topic {count}"
        number = _NUMBER.search(inside) or _ATTRIBUTE.search(attributes)
        text = _field(inside, "title") or _field(inside, "query") or ("" if "<" in inside else inside)
        if number is None or not text.strip():
            raise DataError(f"{place}: has no {'number' if number is None else 'title or query'}")
        _enter(topics, number[1], unescape(text), place)
    return topics


def _field(inside: str, name: str) -> str:
    """What stands behind a tag, up to the next; TREC's own are never closed."""
    found = re.search(rf"<{name}>\s*(?:Topic:)?([^<]*)", inside, re.IGNORECASE)
    return found[1] if found else ""


def _enter(topics: dict[str, str], query_id: str, text: str, place: str) -> None:
    if checked_id(query_id, "the topic's number", place) in topics:
        raise DataError(f"{place}: the topic {query_id!r} was there before")
    topics[query_id] = checked_text(squeezed(text), "the text", place)
