"""A person's own documents as a corpus: files that cannot be read are left out, long texts are cut into passages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from searchrl.data.dataset import Corpus, Dataset
from searchrl.data.load import load_dataset
from searchrl.data.records import plain_or_gz, read_records
from searchrl.errors import ConfigError, DataError, reason
from searchrl.extras import install_command
from searchrl.files import user_path
from searchrl.fitting.documents import TABLES, Row, files_of, read_file

LARGEST = 20_000_000
"""Bytes of one text file: more is no document for people."""
PASSAGE = re.compile(r"(.+)#\d+")
"""The id of a passage: its document's, and its number."""
HEADING = re.compile(r"\s*#{1,6} +(.+)")


@dataclass(frozen=True)
class Documents:
    """What is searched."""

    corpus: Corpus
    documents: int
    """Before long ones were cut."""
    skipped: Sequence[str] = ()
    """Why a file was left out, a line each."""
    judged: Dataset | None = None
    """The same documents with people's judgments, where there are any."""
    source: str = field(default="", compare=False)


def read_documents(source: str, passage: int, text_column: str = "text") -> Documents:
    """Read a folder of files, one file, a BEIR folder, or a dataset by name (whole: its judgments are of documents).

    passage: characters of a passage, at most. Raises DataError where nothing can be read, ConfigError on an unknown
    name, and where a long text is met and what cuts it is not installed.
    """
    path = user_path(source)
    packed = plain_or_gz(path / "corpus.jsonl")
    if not path.exists() or (packed.is_file() and plain_or_gz(path / "queries.jsonl").is_file()):
        dataset = load_dataset(source)
        return Documents(dataset.corpus, len(dataset.corpus), judged=dataset, source=source)
    rows: dict[str, Row] = {}
    skipped: list[str] = []
    if packed.is_file():
        rows = {i: (i, record["title"], record["text"]) for i, record in read_records(packed).items()}
    else:
        files, root = ([path], path.parent) if path.is_file() else (files_of(path), path)
        for file in files:
            try:
                _add(rows, _readable(file, text_column, root), file)
            except DataError as error:
                skipped.append(reason(error))
    if not rows:
        told = f": {skipped[0]}" if skipped else ""
        raise DataError(f"{source}: no document could be read{told}")
    passages = [one for row in rows.values() for one in _cut(row, passage)]
    return Documents(Corpus(*map(list, zip(*passages, strict=True))), len(rows), skipped, source=source)


def document_of(passage_id: str) -> str:
    """The id of the document that a passage is of."""
    match = PASSAGE.fullmatch(passage_id)
    return match[1] if match else passage_id


def _add(rows: dict[str, Row], found: Sequence[Row], file: Path) -> None:
    """Add the documents of a file. Raises DataError where an id was used before; the others are added."""
    again = []
    for name, title, text in found:
        key = quote(name, safe="/:.,;=@!()'*+&~")
        if key in rows:
            again.append(name)
        if not title and file.suffix.lower() not in TABLES:
            title = _title(name, text)
        rows.setdefault(key, (key, title, text))
    if again:
        raise DataError(f"{file}: {len(again)} documents whose ids were used before, such as {again[0]!r}")


def _readable(file: Path, text_column: str, root: Path) -> list[Row]:
    if file.suffix.lower() not in TABLES and file.stat().st_size > LARGEST:
        raise DataError(f"{file}: more than {LARGEST} bytes; split it, if it is a document")
    rows = [row for row in read_file(file, text_column, root) if row[2].strip()]
    if not rows:
        raise DataError(f"{file}: holds no text")
    if any("\0" in text for _, _, text in rows):
        raise DataError(f"{file}: is no text (it has NUL bytes)")
    return rows


def _title(name: str, text: str) -> str:
    """A text's first heading, or its file's name."""
    heading = HEADING.match(text)
    return heading[1].strip() if heading else Path(name).stem


def _cut(row: Row, most: int) -> list[Row]:
    key, title, text = row
    if len(text) <= most:
        return [row]
    pieces = _splitter(most, key)(text)
    return [(f"{key}#{number}", title, piece) for number, piece in enumerate(pieces, start=1)]


def _splitter(most: int, name: str) -> Callable[[str], Sequence[str]]:
    """Cuts at the largest unit that fits: headings of Markdown, paragraphs, sentences, words."""
    try:
        from semantic_text_splitter import MarkdownSplitter, TextSplitter
    except ImportError as error:
        raise ConfigError(
            f"{name} is longer than `passage` {most} characters, and what cuts texts is not installed: "
            f"{install_command('documents')}; or raise `passage`"
        ) from error
    kind = MarkdownSplitter if name.endswith(".md") else TextSplitter
    chunks: Callable[[str], Sequence[str]] = kind((most // 2, most)).chunks
    return chunks
