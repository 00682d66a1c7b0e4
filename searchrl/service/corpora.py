"""Corpora indexed once and kept: a folder each, with the documents (SQLite) and their vectors (memory-mapped).

A folder ``NAME@VERSION`` appears under its name, by one rename, when everything in it is on the disk. Of two versions
the higher one that can be opened counts. So a process that is killed at any moment leaves every corpus whole, in the
old state or the new. The documents are one SQLite file, written once, read in place.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from searchrl.config import IndexConfig
from searchrl.data.dataset import Corpus
from searchrl.data.on_disk import BLOCK, stored_corpus
from searchrl.data.records import Document
from searchrl.errors import CacheError, ConfigError, OutputError, reason
from searchrl.files import crc32
from searchrl.retrieval.build import index_of
from searchrl.retrieval.dense import TextEncoder
from searchrl.retrieval.ranking import FloatArray
from searchrl.search.corpus import IndexedCorpus

logger = logging.getLogger(__name__)

APPLICATION_ID = 0x5EA2C0B5
"""Marks a database as ours."""


class Facts(BaseModel):
    """What a corpus's file says about the corpus."""

    model_config = ConfigDict(strict=True)

    documents: Annotated[int, Field(ge=1)]
    dim: Annotated[int, Field(ge=1, le=1 << 20)]
    encoder: str
    crc32: int
    """Of the vectors' file."""
    texts_crc32: int | None = None
    """Of all ids, titles and texts; corpora written before 0.3 have none."""


class Documents:
    """Reads a corpus's SQLite file, from any thread. Raises CacheError where it is not one, or is damaged."""

    def __init__(self, path: Path) -> None:
        self._lock, self._path = threading.Lock(), path
        try:
            # Nothing ever changes the file, so SQLite need not look for locks; a file that was removed stays readable.
            address = f"{path.absolute().as_uri()}?immutable=1"
            self._connection = sqlite3.connect(address, uri=True, check_same_thread=False)
            weakref.finalize(self, self._connection.close)
            ours = self._rows("PRAGMA application_id") == [(APPLICATION_ID,)]
            whole = self._rows("PRAGMA quick_check(1)") == [("ok",)]
            if not (ours and whole):
                raise CacheError(f"{path}: damaged, or not the documents of a corpus")
            self.facts = Facts.model_validate(dict(self._rows("SELECT name, value FROM facts")))
            self._count = int(self._rows("SELECT count(*) FROM documents")[0][0])
        except (sqlite3.Error, ValidationError) as error:
            raise CacheError(f"{path}: damaged, or not the documents of a corpus ({reason(error)})") from error

    def check(self) -> None:
        """Read every text. Raises CacheError where one is not what was written."""
        crc = 0
        for start in range(0, len(self), BLOCK):
            for document in self.get(range(start, start + BLOCK)).values():
                crc = checksum(document, crc)
        if self._count != self.facts.documents or self.facts.texts_crc32 not in (None, crc):
            raise CacheError(f"{self._path}: not what was written; index the corpus again")

    def __len__(self) -> int:
        return self._count

    def get(self, positions: Iterable[int]) -> dict[int, Document]:
        """Documents by their position; positions past the end are left out."""
        distinct = sorted({int(p) for p in positions})
        found: dict[int, Document] = {}
        for start in range(0, len(distinct), BLOCK):
            part = distinct[start : start + BLOCK]
            marks = ",".join("?" * len(part))
            rows = self._rows(f"SELECT position, id, title, text FROM documents WHERE position IN ({marks})", part)
            found.update((position, tuple(document)) for position, *document in rows)
        if not all(isinstance(part, str) for document in found.values() for part in document):
            raise CacheError(f"{self._path}: damaged: holds something else than texts; index the corpus again")
        return found

    def corpus(self) -> Corpus:
        """The same as everything else reads documents; texts stay on disk until they are asked for."""
        return stored_corpus(self)

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            with self._lock:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:  # a flipped byte makes a text that is none
            raise CacheError(f"{self._path}: damaged ({reason(error)}); index the corpus again") from error


def checksum(document: Document, before: int = 0) -> int:
    """CRC-32 of a document's texts, going on from those before it."""
    return zlib.crc32("\0".join((*document, "")).encode("utf-8", "surrogatepass"), before)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk, as far as the system can say (folders: not on Windows)."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
"""What a corpus may be called; lower case, because some file systems do not tell upper case apart."""
DOCUMENTS_FILE, VECTORS_FILE = "documents.sqlite", "vectors.f32"

_FOLDER = re.compile(rf"({NAME})@(\d{{8}})")
_TEMPORARY = re.compile(rf"\.{NAME}@\d{{8}}\.tmp")


@dataclass(frozen=True, eq=False)
class Collection(IndexedCorpus):
    """One corpus of the store, whose documents stay on disk until they are asked for."""

    name: str
    documents: Documents

    def read(self, positions: Iterable[int]) -> dict[int, Document]:
        """Documents by their position, all in one query."""
        return self.documents.get(positions)

    @property
    def facts(self) -> dict[str, Any]:
        """What there is to say about it."""
        return {"name": self.name, "documents": len(self.corpus), "encoder": self.encoder.fingerprint}


class CorpusStore:
    """All corpora of a folder, which one process at a time may use. read_only: any number, and none changes it.
    indexing: where they are searched; ids and texts stay in the folder.

    Raises ConfigError where another process does, OutputError where the folder cannot be written.
    """

    def __init__(
        self, folder: Path, encoder: TextEncoder, read_only: bool = False, indexing: IndexConfig | None = None
    ) -> None:
        from filelock import FileLock, Timeout

        self._folder, self._read_only, self._indexing = folder, read_only, indexing or IndexConfig()
        self.encoder = encoder
        self.collections: dict[str, Collection] = {}
        """By name."""
        self.unusable: dict[str, str] = {}
        """Name -> why it cannot be searched."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / ".lock", thread_local=False)  # let go of by whichever thread closes
            if not read_only:
                self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ConfigError(f"{folder} is in use by another service; stop it, or name another folder") from error
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({error.strerror}); name another corpora folder") from error

    def load(self) -> None:
        """Remove what an interrupted process left, and open every corpus; what is wrong with one is logged."""
        versions: dict[str, list[Path]] = {}
        for path in sorted(self._folder.iterdir()):
            if _TEMPORARY.fullmatch(path.name):
                self._remove(path)
            elif match := _FOLDER.fullmatch(path.name):
                versions.setdefault(match[1], []).append(path)
        for name, paths in versions.items():
            self._load(name, paths[::-1])

    def _load(self, name: str, newest_first: Sequence[Path]) -> None:
        """Open the newest version that can be; only then are older ones removed. One corpus's damage stays its own."""
        for place, path in enumerate(newest_first):
            try:
                self.collections[name] = self._open(name, path)
            except Exception as error:  # files are damaged in more ways than can be listed
                expected = isinstance(error, (CacheError, OSError))
                called = name if place + 1 == len(newest_first) else path.name
                logger.error("corpus %s cannot be searched: %s", called, error, exc_info=not expected)
                self.unusable[called] = str(error)
            else:
                for old in newest_first[place + 1 :]:
                    self._remove(old)
                return

    def _remove(self, path: Path) -> None:
        """Remove what another process left, where that is ours to do."""
        if not self._read_only:
            shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Let another process have the folder."""
        self.collections.clear()
        self._lock.release()

    @contextmanager
    def aside(self) -> Iterator[IO[bytes]]:
        """A file on the corpora's disk that is gone with the block. Raises OutputError where there is no room."""
        try:
            file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        except OSError as error:
            raise OutputError(f"{self._folder}: cannot be written ({reason(error)}); make room") from error
        try:
            yield file
        finally:
            with suppress(OSError):  # what was not written yet cannot be written now
                file.close()

    def begin(self, name: str) -> CorpusWriter:
        """Start to write a corpus, which need not be new. Raises OutputError where that cannot be done."""
        version = 1 + max((int(path.name[-8:]) for path in self._versions(name)), default=0)
        return CorpusWriter(self._folder / f"{name}@{version:08d}", self.encoder)

    def publish(self, name: str, writer: CorpusWriter) -> Collection:
        """Make a corpus that was written the one of its name, on disk and here."""
        old = self._versions(name)
        self.collections[name] = self._open(name, writer.finish())
        for path in old:
            shutil.rmtree(path, ignore_errors=True)
        self._usable(name)
        return self.collections[name]

    def delete(self, name: str) -> bool:
        """Forget a corpus; whether there was one."""
        for path in self._versions(name):  # the newest last: no older one may come back
            aside = path.with_name(f".{path.name}.tmp")
            path.replace(aside)
            shutil.rmtree(aside, ignore_errors=True)
        unusable = self._usable(name)
        return self.collections.pop(name, None) is not None or unusable

    def _usable(self, name: str) -> bool:
        """Forget what was wrong with a corpus; whether anything was."""
        gone = [key for key in self.unusable if key == name or key.startswith(f"{name}@")]
        for key in gone:
            del self.unusable[key]
        return bool(gone)

    def _versions(self, name: str) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if (m := _FOLDER.fullmatch(path.name)) and m[1] == name)

    def _open(self, name: str, folder: Path) -> Collection:
        documents = Documents(folder / DOCUMENTS_FILE)
        facts, corpus = documents.facts, documents.corpus()
        if facts.encoder != self.encoder.fingerprint:
            raise CacheError(
                f"{folder}: indexed with encoder {facts.encoder}, the service runs {self.encoder.fingerprint}; "
                "index the corpus again, or start the service with that encoder"
            )
        documents.check()
        vectors = _map(folder / VECTORS_FILE, (len(corpus), facts.dim), facts.crc32)
        index = index_of(corpus, self.encoder, vectors, self._indexing)
        return Collection(corpus, index, self.encoder, name=name, documents=documents)


class CorpusWriter:
    """A corpus on its way to the disk, under a temporary name. Use from one thread at a time; ``discard`` it if it
    is not published.
    """

    def __init__(self, target: Path, encoder: TextEncoder) -> None:
        self._target, self._folder = target, target.with_name(f".{target.name}.tmp")
        self._encoder = encoder
        self._crc = self._texts_crc = 0
        self.count = 0
        """Documents so far."""
        with self._written():
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()
            self._vectors = (self._folder / VECTORS_FILE).open("wb")
            path = self._folder / DOCUMENTS_FILE
            self._documents = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            weakref.finalize(self, self._documents.close)
            for statement in (
                "PRAGMA journal_mode = OFF",  # what is not finished is thrown away whole
                "PRAGMA synchronous = OFF",
                f"PRAGMA application_id = {APPLICATION_ID}",
                "CREATE TABLE documents (position INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, title TEXT, text TEXT)",
                "CREATE TABLE facts (name TEXT PRIMARY KEY, value)",
                "BEGIN",
            ):
                self._documents.execute(statement)

    def add(self, documents: Sequence[Document], vectors: FloatArray) -> None:
        """Append documents, whose ids are new, and their vectors, (n, dim)."""
        rows = ((self.count + i, *document) for i, document in enumerate(documents))
        content = vectors.astype("<f4").tobytes()
        with self._written():
            self._documents.executemany("INSERT INTO documents VALUES (?, ?, ?, ?)", rows)
            self._vectors.write(content)
        for document in documents:
            self._texts_crc = checksum(document, self._texts_crc)
        self.count += len(documents)
        self._crc = zlib.crc32(content, self._crc)

    def finish(self) -> Path:
        """Bring everything to the disk, under its name."""
        facts = Facts(
            documents=self.count,
            dim=self._encoder.dim,
            encoder=self._encoder.fingerprint,
            crc32=self._crc,
            texts_crc32=self._texts_crc,
        )
        with self._written():
            self._documents.executemany("INSERT INTO facts VALUES (?, ?)", facts.model_dump().items())
            self._documents.execute("COMMIT")
            self._documents.close()
            self._vectors.close()
            for path in (self._folder / DOCUMENTS_FILE, self._folder / VECTORS_FILE, self._folder):
                sync(path)
            self._folder.replace(self._target)
            sync(self._target.parent)
        return self._target

    def discard(self) -> None:
        """Forget what was written and not published."""
        with suppress(OSError):  # what was not written yet cannot be written now
            self._vectors.close()
        self._documents.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Raise OutputError where the disk is full or cannot be written."""
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise OutputError(f"{self._target.parent}: cannot be written ({reason(error)}); make room") from error


def _map(path: Path, shape: tuple[int, int], crc: int) -> FloatArray:
    """Map vectors read-only. Raises CacheError when they are not what was written."""
    try:
        if crc32(path) != crc or path.stat().st_size != 4 * shape[0] * shape[1]:
            raise CacheError(f"{path}: not what was written; index the corpus again")
        return np.asarray(np.memmap(path, dtype="<f4", mode="r", shape=shape))
    except OSError as error:
        raise CacheError(f"{path}: cannot be read ({error.strerror}); index the corpus again") from error
