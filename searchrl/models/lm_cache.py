"""Remembers every answer of a language model on disk, so that none is computed twice.

One SQLite file (WAL) of key-value pairs: a killed job loses at most the chunk that was being computed. An answer's key
is a SHA-256 over model fingerprint, call, prompt and parameters.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from searchrl.cluster import Request
from searchrl.errors import CacheError, EngineError, OutputError
from searchrl.files import cache_dir, locked
from searchrl.models.language_model import FloatArray, LanguageModel, Prompt
from searchrl.models.prompts import CONTROL
from searchrl.progress import progress_bar

logger = logging.getLogger(__name__)

T = TypeVar("T")

APPLICATION_ID = 0x5EA2C84C
"""Marks a database as ours, so that no other program's file is ever written to or cleared."""
FAULTS = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What SQLite raises; it decodes its own message of a damaged schema, which need not be text."""
BUSY_SECONDS = 60.0
KEYS_AT_ONCE = 900
"""SQLite builds before 3.32 take no more than 999 placeholders."""


class AnswerStore:
    """Digest -> bytes. May be shared by threads and processes. ``path`` None: in memory.

    Raises OutputError where the file cannot be written, CacheError where it is another program's database. A damaged
    file is moved aside as ``NAME.damaged``, with a logged warning, and a new one begun; an entry whose checksum is
    wrong counts as absent.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._begin()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The entries there are, of those asked for."""
        distinct = list(dict.fromkeys(keys))
        asked = set(distinct)
        found: dict[bytes, bytes] = {}
        for start in range(0, len(distinct), KEYS_AT_ONCE):
            part = distinct[start : start + KEYS_AT_ONCE]
            query = f"SELECT key, value, crc FROM answers WHERE key IN ({','.join('?' * len(part))})"
            rows = self._rows(query, part)
            # A row of a damaged key can come in another's place.
            whole = {
                key: value
                for key, value, crc in rows
                if key in asked and isinstance(value, bytes) and zlib.crc32(value) == crc
            }
            if len(whole) < len(rows):
                logger.warning("%s: %d damaged answers are computed again", self._path, len(rows) - len(whole))
            found.update(whole)
        return found

    def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Add or replace entries, all of them or none."""
        rows = [(key, value, zlib.crc32(value)) for key, value in entries.items()]

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)

        self._run(write)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _rows(self, query: str, values: Sequence[bytes] = ()) -> list[Any]:
        return self._run(lambda connection: connection.execute(query, values).fetchall())

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work``; if that uncovers damage, begin a new file and do it again."""
        with self._lock:
            try:
                return work(self._connection)
            except FAULTS as error:
                if not _is_damage(error) or self._path is None:
                    raise self._unusable(error) from error
                self._connection.close()
                self._begin()
            try:
                return work(self._connection)
            except FAULTS as error:
                raise self._unusable(error) from error

    def _begin(self) -> None:
        self._connection = self._open()
        weakref.finalize(self, self._connection.close)  # should nobody close it before

    def _open(self) -> sqlite3.Connection:
        if self._path is None:
            return _connect(":memory:")
        try:
            # One process at a time looks for damage, or two could each move the other's new file aside.
            with locked(Path(f"{self._path}.lock")):
                try:
                    return _connect(self._path)
                except FAULTS as error:
                    if not _is_damage(error):
                        raise
                    aside = _move_aside(self._path)
                    said = "the language model cache %s is damaged (%s); moved to %s, a new one is begun"
                    logger.warning(said, self._path, error, aside.name)
                    return _connect(self._path)
        except (*FAULTS, OSError, OutputError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> OutputError:
        return OutputError(
            f"the language model cache {self._path or 'in memory'} cannot be used ({error}): "
            "make room, set SEARCHRL_CACHE to a folder that can be written, or switch the cache off"
        )


@dataclass(frozen=True)
class CacheStats:
    """What a cache file holds."""

    entries: int
    bytes: int
    """On disk, the write-ahead log included."""


def cache_stats(path: Path) -> CacheStats:
    """Entries and size of a cache file; zeros where there is none. Errors as in ``AnswerStore``."""
    if not path.exists():
        return CacheStats(0, 0)
    with closing(AnswerStore(path)) as store:
        entries = store._rows("SELECT count(*) FROM answers")[0][0]
        return CacheStats(entries, sum(file.stat().st_size for file in _files(path) if file.exists()))


def clear_cache(path: Path) -> CacheStats:
    """Forget every answer in a cache file and give its space back; returns what it held. Errors as in ``AnswerStore``.

    Other processes that have it open go on with an empty cache.
    """
    before = cache_stats(path)
    if path.exists():
        with closing(AnswerStore(path)) as store:
            store._run(_clear)
    return before


def _clear(connection: sqlite3.Connection) -> None:
    with connection:
        connection.execute("DELETE FROM answers")
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _connect(path: Path | str) -> sqlite3.Connection:
    """Check that the database is whole and ours, or empty; then make its table. Raises CacheError on a foreign one."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise CacheError(f"{path} is another program's database, not a language model cache: name another file")
        fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if fault != "ok":
            raise sqlite3.DatabaseError(fault)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # with WAL, a crash may lose answers, never the file
        if not tables:
            with connection:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(
                    "CREATE TABLE answers (key BLOB PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL) "
                    "WITHOUT ROWID"
                )
    except BaseException:
        connection.close()
        raise
    connection.text_factory = bytes  # a flipped bit can make a text of an answer, which then need not be one
    return connection


def _is_damage(error: Exception) -> bool:
    """Damage comes as DatabaseError itself; its subclasses mean a lock, a full disk, missing permissions."""
    return type(error) in FAULTS


def _files(path: Path) -> list[Path]:
    return [path, Path(f"{path}-wal"), Path(f"{path}-shm")]


def _move_aside(path: Path) -> Path:
    aside = Path(f"{path}.damaged")
    for file in _files(path):
        if file == path and file.exists():
            file.replace(aside)
        else:
            file.unlink(missing_ok=True)  # the log of a database that is gone would damage the next one
    return aside


CHUNK = 64
"""Answers computed, then stored in one transaction."""


def default_cache_path() -> Path:
    """The cache file in the user's cache folder. Raises OutputError where that cannot be written."""
    return cache_dir() / "language_model.sqlite"


class CachedLanguageModel:
    """A ``LanguageModel`` in front of another: what was asked before is read, the rest computed and kept.

    path, and errors: see ``AnswerStore``. chunk: answers computed before they are stored.
    """

    def __init__(
        self, lm: LanguageModel, path: Path | None, *, chunk: int = CHUNK, show_progress: bool = False
    ) -> None:
        self._lm = lm
        self._store = AnswerStore(path)
        self._chunk = chunk
        self.show_progress = show_progress
        self.hits = 0
        """Answers given without the model, repeats within one call included."""
        self.calls = 0
        """Answers that the model computed."""

    @property
    def fingerprint(self) -> str:
        """The model's own."""
        return self._lm.fingerprint

    def close(self) -> None:
        """Close the file; the object is of no use afterwards."""
        self._store.close()

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """See ``LanguageModel.generate``."""
        settings = [max_new_tokens, temperature, seed if temperature else 0]
        how = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}

        def request(chosen: Sequence[str]) -> Request:
            return Request("generate", (list(chosen),), how)

        values = self._answers(
            settings, list(prompts), _by_length, request, lambda text: text.encode("utf-8", "surrogatepass")
        )
        return [value.decode("utf-8", "surrogatepass") for value in values]

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> FloatArray:
        """See ``LanguageModel.choice_logprobs``."""

        def request(chosen: Sequence[str]) -> Request:
            return Request("choice_logprobs", (list(chosen), choices))

        # In lexical order, so that prompts with a common beginning are computed together.
        values = self._answers(list(choices), list(prompts), str, request, _to_bytes)
        return _from_bytes(values).reshape(len(prompts), len(choices))

    def continuation_logprobs(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """See ``LanguageModel.continuation_logprobs``."""

        def request(chosen: Sequence[tuple[str, str]]) -> Request:
            return Request("continuation_logprobs", ([c for c, _ in chosen], [c for _, c in chosen]))

        pairs = list(zip(contexts, continuations, strict=True))
        # Ordered by context, so that a chunk holds all pairs of a context and the model computes it once.
        by_context = self._answers([], pairs, lambda pair: _by_length(pair[0]), request, _to_bytes)
        return _from_bytes(by_context)

    def _answers(
        self,
        settings: Sequence[Any],
        items: Sequence[Any],
        group: Callable[[Any], Any],
        request: Callable[[Sequence[Any]], Request],
        to_bytes: Callable[[Any], bytes],
    ) -> list[bytes]:
        """The answer to each item, from the store or from the model, which gets a ``request`` for chunks of whole
        groups.

        Chunks are cut from the sorted rest, so that a job that was killed goes on with chunks of the same members and
        therefore the same last bits. What a server answered of a chunk before it failed is stored, too.
        """
        call = request([]).method
        prefix = json.dumps([self.fingerprint, call, settings])
        keys = [hashlib.sha256(f"{prefix}{_written(item)}".encode()).digest() for item in items]
        known = self._store.get(keys)
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
        todo = sorted(missing.items(), key=lambda entry: (group(entry[1]), entry[1]), reverse=True)
        self.hits += len(items) - len(todo)
        chunks: list[list[tuple[bytes, Any]]] = [[]]
        for _, members in groupby(todo, key=lambda entry: group(entry[1])):
            if len(chunks[-1]) >= self._chunk:
                chunks.append([])
            chunks[-1] += members
        with progress_bar(len(todo), call, "item", show=bool(self.show_progress and todo)) as bar:
            if workers := getattr(self._lm, "workers", 0):
                bar.set_postfix_str(f"{workers} workers")
            requests = [request([item for _, item in chunk]) for chunk in chunks if chunk]
            for i, answers in self._computed(requests, chunks, to_bytes):
                fresh = {key: to_bytes(answer) for (key, _), answer in zip(chunks[i], answers, strict=True)}
                self._store.put(fresh)
                known.update(fresh)
                self.calls += len(fresh)
                bar.update(len(fresh))
        return [known[key] for key in keys]

    def _computed(
        self,
        requests: Sequence[Request],
        chunks: Sequence[Sequence[tuple[bytes, Any]]],
        to_bytes: Callable[[Any], bytes],
    ) -> Iterator[tuple[int, Any]]:
        """Place and answers of every chunk: one after another, or, where the model has workers, as they come."""
        if hasattr(self._lm, "each"):
            yield from self._lm.each(requests)
            return
        for i, (method, arguments, named) in enumerate(requests):
            try:
                answers = getattr(self._lm, method)(*arguments, **named)
            except EngineError as error:
                self._store.put({chunks[i][place][0]: to_bytes(said) for place, said in error.answered.items()})
                raise
            yield i, answers


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text


def _to_bytes(values: Any) -> bytes:
    return np.asarray(values, dtype="<f4").tobytes()


def _from_bytes(values: Sequence[bytes]) -> FloatArray:
    return np.frombuffer(b"".join(values), dtype="<f4").astype(np.float32)


def _written(item: Any) -> str:
    """A prompt, or a pair of texts, as its key has it."""
    texts = [item] if isinstance(item, str) else list(item)
    more = [[text.parts, text.beginning] for text in texts if isinstance(text, Prompt)]
    # Before, what looks like a control token was read as one; such answers are not taken any more.
    return json.dumps(item) + (json.dumps(["text", more]) if more or any(map(CONTROL.search, texts)) else "")
