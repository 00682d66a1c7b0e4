"""The documents of an indexed corpus: one SQLite file, written once, read in place."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

from searchrl.data.dataset import Corpus
from searchrl.errors import CacheError, DataError
from searchrl.search.first_stage import Document

APPLICATION_ID = 0x5EA2C0B5
"""Marks a database as ours."""
AT_ONCE = 900
"""SQLite builds before 3.32 take no more than 999 placeholders."""


class DocumentWriter:
    """Writes a new file. It is of no use to anyone before ``finish``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = OFF",  # what is not finished is thrown away whole
            "PRAGMA synchronous = OFF",
            f"PRAGMA application_id = {APPLICATION_ID}",
            "CREATE TABLE documents (position INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, title TEXT, text TEXT)",
            "CREATE TABLE facts (name TEXT PRIMARY KEY, value)",
            "BEGIN",
        ):
            self._connection.execute(statement)
        self.count = 0
        """Documents written."""

    def add(self, documents: Iterable[Document]) -> None:
        """Append documents. Raises DataError at an id that is there already."""
        for document in documents:
            try:
                self._connection.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", (self.count, *document))
            except sqlite3.IntegrityError as error:
                raise DataError(f"document {self.count + 1}: the id {document[0]!r} was used before") from error
            self.count += 1

    def finish(self, facts: dict[str, Any]) -> None:
        """Add the corpus's facts and bring everything to the disk."""
        self._connection.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
        self._connection.execute("COMMIT")
        self.close()
        sync(self._path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class Documents:
    """Reads such a file, from any thread. Raises CacheError where it is not one, or is damaged."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            # Nothing ever changes the file, so SQLite need not look for locks; a file that was removed stays readable.
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?immutable=1", uri=True, check_same_thread=False
            )
            weakref.finalize(self, self._connection.close)
            ours = self._rows("PRAGMA application_id") == [(APPLICATION_ID,)]
            whole = self._rows("PRAGMA quick_check(1)") == [("ok",)]
            if not (ours and whole):
                raise CacheError(f"{path}: damaged, or not the documents of a corpus")
            self.facts: dict[str, Any] = dict(self._rows("SELECT name, value FROM facts"))
            self._count = int(self._rows("SELECT count(*) FROM documents")[0][0])
        except sqlite3.Error as error:
            raise CacheError(f"{path}: damaged, or not the documents of a corpus ({error})") from error

    def __len__(self) -> int:
        return self._count

    def get(self, positions: Iterable[int]) -> dict[int, Document]:
        """Documents by their position; positions past the end are left out."""
        distinct = sorted({int(p) for p in positions})
        found: dict[int, Document] = {}
        for start in range(0, len(distinct), AT_ONCE):
            part = distinct[start : start + AT_ONCE]
            marks = ",".join("?" * len(part))
            rows = self._rows(f"SELECT position, id, title, text FROM documents WHERE position IN ({marks})", part)
            found.update((position, tuple(document)) for position, *document in rows)
        return found

    def corpus(self) -> Corpus:
        """The same as everything else reads documents; texts stay on disk until they are asked for."""
        return Corpus(*(_Column(self, place) for place in range(3)))

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()


class _Column(Sequence[str]):
    """All ids, titles or texts, read when they are asked for."""

    def __init__(self, documents: Documents, place: int) -> None:
        self._documents = documents
        self._place = place

    def __len__(self) -> int:
        return len(self._documents)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        wanted = range(len(self))[index]
        if isinstance(wanted, range):
            found = self._documents.get(wanted)
            return [found[i][self._place] for i in wanted]
        return self._documents.get([wanted])[wanted][self._place]


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk, as far as the system can say (folders: not on Windows)."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
