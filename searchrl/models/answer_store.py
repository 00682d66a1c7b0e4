"""Key-value pairs in one SQLite file, and what to do when it is damaged, foreign or cannot be written."""

from __future__ import annotations

import logging
import sqlite3
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from searchrl.errors import CacheError, OutputError
from searchrl.files import locked

logger = logging.getLogger(__name__)

T = TypeVar("T")

APPLICATION_ID = 0x5EA2C84C
"""Marks a database as ours, so that no other program's file is ever written to or cleared."""
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
        with self._lock:
            self._connection = self._open()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The entries there are, of those asked for."""
        distinct = list(dict.fromkeys(keys))
        found: dict[bytes, bytes] = {}
        for start in range(0, len(distinct), KEYS_AT_ONCE):
            part = distinct[start : start + KEYS_AT_ONCE]
            query = f"SELECT key, value, crc FROM answers WHERE key IN ({','.join('?' * len(part))})"
            rows = self._run(partial(_fetch, query=query, keys=part))
            whole = {key: value for key, value, crc in rows if zlib.crc32(value) == crc}
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

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work``; if that uncovers damage, begin a new file and do it again."""
        with self._lock:
            try:
                return work(self._connection)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error) or self._path is None:
                    raise self._unusable(error) from error
                self._connection.close()
                self._connection = self._open()
            try:
                return work(self._connection)
            except sqlite3.DatabaseError as error:
                raise self._unusable(error) from error

    def _open(self) -> sqlite3.Connection:
        if self._path is None:
            return _connect(":memory:")
        try:
            # One process at a time looks for damage, or two could each move the other's new file aside.
            with locked(Path(f"{self._path}.lock")):
                try:
                    return _connect(self._path)
                except sqlite3.DatabaseError as error:
                    if not _is_damage(error):
                        raise
                    aside = _move_aside(self._path)
                    logger.warning(
                        "the language model cache %s is damaged (%s); moved to %s, a new one is begun",
                        self._path,
                        error,
                        aside.name,
                    )
                    return _connect(self._path)
        except (sqlite3.DatabaseError, OSError, OutputError) as error:
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
    """Entries and size of a cache file; zeros where there is none. Errors as in ``AnswerStore``; changes nothing in a
    file that is in order.
    """
    if not path.exists():
        return CacheStats(0, 0)
    with closing(AnswerStore(path)) as store:
        entries = store._run(lambda c: int(c.execute("SELECT count(*) FROM answers").fetchone()[0]))
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


def _fetch(connection: sqlite3.Connection, query: str, keys: Sequence[bytes]) -> list[tuple[bytes, bytes, int]]:
    return connection.execute(query, keys).fetchall()


def _connect(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        _prepare(connection, str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, name: str) -> None:
    """Check that the database is whole and ours, or empty; then make its table. Raises CacheError on a foreign one."""
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise CacheError(f"{name} is another program's database, not a language model cache: name another file")
    fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if fault != "ok":
        raise sqlite3.DatabaseError(fault)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")  # with WAL, a crash may lose answers, never the file
    if not tables:
        with connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(
                "CREATE TABLE answers (key BLOB PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID"
            )


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Damage comes as DatabaseError itself; its subclasses mean a lock, a full disk, missing permissions."""
    return type(error) is sqlite3.DatabaseError


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
