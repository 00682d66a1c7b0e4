"""Files and folders that are there whole or not at all, locks, and the folder for what can be made again.

Three kinds of folder:
``new_folder`` for a user's result (it replaces nothing), ``save_arrays`` for arrays that are mapped rather than loaded
(a CRC-32 a file), ``sealed_folder`` for anything built once by one process (a SHA-256 a file). ``Parts`` are the
finished steps of long work, so that work that was killed goes on from there.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import socket
import sysconfig
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from searchrl.errors import CacheError, ConfigError, OutputError, reason

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]
T = TypeVar("T")

HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
"""Stands in the names of temporary files with the process: those of other machines on a shared disk are not ours."""

LONG_NAME = 200
"""Bytes of a file's name beyond which a temporary one could exceed what file systems take, 255."""

_OWNER = re.compile(r"\..*\.([0-9a-f]{6})-([0-9]+)-[0-9a-f]{8}\.tmp", re.DOTALL)

SEAL = "seal.json"
"""In a sealed folder: file name -> SHA-256 of every other file; written last."""

CACHE_WAY_OUT = "set SEARCHRL_CACHE to a folder that can be written"


def load_json(text: str | bytes) -> Any:
    """As ``json.loads``, but whatever is wrong with the text is a ValueError: nesting without end, too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def user_path(path: str | Path) -> Path:
    """A path with ``~`` filled in. Raises ConfigError where that names nobody's home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: {reason(error)}; write the folder's path in full") from error


def cache_path() -> Path:
    """Name the user's cache folder, which need not be there yet: ``$SEARCHRL_CACHE``, else
    ``$XDG_CACHE_HOME/searchrl``, else ``~/.cache/searchrl``.

    Raises ConfigError where a home folder is needed and there is none.
    """
    own = os.environ.get("SEARCHRL_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME", "")  # relative or empty: to be ignored, by the XDG specification
    folder = Path(own or (Path(shared) if Path(shared).is_absolute() else Path("~/.cache")) / "searchrl")
    try:
        return folder.expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"the cache {folder}: {error}; set SEARCHRL_CACHE to a folder") from error


def shipped(name: str) -> Path:
    """A file or folder of ``checkpoints/`` that comes with SearchRL: in the clone, or where a wheel has put it."""
    file = Path("checkpoints") / name
    clone, installed = Path(__file__).parents[1], Path(sysconfig.get_path("data"), "share", "searchrl")
    here = clone / file
    if here.exists():
        return file if file.exists() and file.samefile(here) else here
    return installed / file


def cache_dir() -> Path:
    """Return the folder that ``cache_path`` names, made if need be.

    Raises ConfigError where it is not a folder, OutputError where it cannot be made or written.
    """
    folder = cache_path()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"the cache {folder} is a file, not a folder: {CACHE_WAY_OUT}")
    with _output(folder, CACHE_WAY_OUT):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all. Raises OutputError when the place cannot be written."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes, way_out: str = "") -> None:
    """Write a file whole or not at all: a symbolic link stays, and the file that it names is written.

    What is there and no regular file (a device, a pipe, ``/dev/stdout``) is written to as it is. Raises OutputError,
    which ends with ``way_out``, when the place cannot be written.
    """
    if "\0" in str(path):  # which the system's own calls do not take, each in its own words
        raise OutputError(f"{path!s:.60}: no file's name has a null character; give another name")
    with _output(path, way_out):
        if not is_replaceable(path):
            with path.open("wb") as stream:
                stream.write(content)
            return
        target = _followed(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(target)
        try:
            temporary.write_bytes(content)
            temporary.replace(target)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def is_replaceable(path: Path) -> bool:
    """Whether another file may take this one's place: there is none, or it is a regular file or a folder."""
    return not path.exists() or path.is_file() or path.is_dir()


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed had begun to write in a folder or one level below."""
    for pattern in (".*.tmp", "*/.*.tmp"):
        for path in folder.glob(pattern):
            if _abandoned(path):
                _remove(path)


def _followed(path: Path) -> Path:
    """Where a symbolic link leads, whether or not there is something; the path itself where it is none."""
    return path.resolve() if path.is_symlink() else path


def _temporary(path: Path) -> Path:
    """A name beside ``path`` to write under first. What killed processes left there for the same path is removed."""
    long = len(os.fsencode(path.name)) > LONG_NAME
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16] if long else path.name
    for leftover in path.parent.glob(f".{glob.escape(name)}.*.tmp"):
        if _abandoned(leftover):
            _remove(leftover)
    return path.with_name(f".{name}.{HOST}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _abandoned(path: Path) -> bool:
    """Whether a temporary file or folder of this machine belongs to a process that is gone."""
    owner = _OWNER.fullmatch(path.name)
    if owner is None or owner[1] != HOST or os.name != "posix":
        return False
    try:
        os.kill(int(owner[2]), 0)  # signal 0 only asks
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``path`` when the block ends; after an error, nothing is left of it.

    Raises ``OutputError`` if ``path`` exists and is not an empty folder, or cannot be made.
    """
    with _output(path):
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise OutputError(f"{path}: exists already; choose another folder, or remove it first")
        path = _followed(path)
        with beside(path) as temporary:
            yield temporary
            temporary.replace(path)


@dataclass(frozen=True)
class Blocks:
    """An array of ``rows`` rows that is made block by block."""

    rows: int
    make: Callable[[], Iterator[Array]]
    """At least one block, each of other rows."""

    def __call__(self) -> Array:
        """All of it."""
        return np.concatenate(list(self.make()))

    def save(self, path: Path) -> None:
        """Write it as ``np.save`` does, with no more than a block in memory."""
        file: Array | None = None
        row = 0
        for block in self.make():
            if file is None:
                file = np.lib.format.open_memmap(path, "w+", block.dtype, (self.rows, *block.shape[1:]))
            file[row : row + len(block)] = block
            row += len(block)


def save_arrays(
    folder: Path, arrays: Mapping[str, Array | Callable[[], Array] | Blocks], meta: Mapping[str, Any]
) -> None:
    """Write arrays (one ``.npy`` file each) and JSON-able ``meta`` as ``folder``, replacing what stood there.

    An array may be given as a function that makes it: then no more than one is in memory at a time; or in blocks.
    Raises OutputError when the place cannot be written.
    """
    folder = _followed(folder)
    with _output(folder), beside(folder) as temporary:
        sums = {}
        for name, array in arrays.items():
            path = temporary / f"{name}.npy"
            if isinstance(array, Blocks) and array.rows:
                array.save(path)
            else:
                np.save(path, array() if callable(array) else array, allow_pickle=False)
            sums[name] = crc32(temporary / f"{name}.npy")
        text = json.dumps(dict(meta))
        seal = {"meta": text, "crc32": sums, "meta_crc32": zlib.crc32(text.encode())}
        write_text(temporary / "meta.json", json.dumps(seal, indent=1))
        _replace(folder, temporary)


def load_arrays(folder: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Map a folder's arrays read-only and return them with its ``meta``.

    Raises CacheError when a file is missing or is not what was written.
    """
    try:
        content = load_json((folder / "meta.json").read_text(encoding="utf-8"))
        sums, text = content["crc32"], content["meta"]
        if zlib.crc32(text.encode()) != content["meta_crc32"]:
            raise CacheError(f"{folder}/meta.json: not what was written.")
        meta = load_json(text)
        for name, expected in sums.items():
            if crc32(folder / f"{name}.npy") != expected:
                raise CacheError(f"{folder / name}.npy: not what was written.")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in sums}
    except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError) as error:
        raise CacheError(f"{folder}: cannot be read ({error}).") from error
    return arrays, meta


def stored(folder: Path, what: str, read: Callable[[Path], T]) -> T | None:
    """What ``read`` finds in a folder; None where there is no folder, or, after a logged warning, a damaged one."""
    try:
        return read(folder) if folder.exists() else None
    except (CacheError, KeyError) as error:
        logger.warning("The stored %s is damaged and will be rebuilt: %s", what, error)
        return None


@dataclass(frozen=True)
class Part:
    """What one step computed: arrays, and facts that JSON can hold."""

    arrays: Mapping[str, Array]
    facts: Mapping[str, Any] = field(default_factory=dict)


PARTS_OPEN = 16
"""Parts whose files stay mapped: those used last."""


class StoredParts:
    """Parts in a folder. Where one is damaged, all are discarded after a logged warning: later ones rest on it.

    Reading raises CacheError, should a part be damaged meanwhile; writing raises OutputError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, Part] = {}
        try:
            for path in folder.glob("[!.]*"):  # what begins with a dot was being written when its process died
                _ = self[path.name]
        except CacheError as error:
            logger.warning("%s: finished parts are damaged, so the work starts over: %s", folder, error)
            shutil.rmtree(folder, ignore_errors=True)
            self._read.clear()

    def __contains__(self, name: object) -> bool:
        return (self._folder / str(name)).is_dir()

    def __getitem__(self, name: str) -> Part:
        part = self._read.pop(name, None) or Part(*load_arrays(self._folder / name))
        self._read[name] = part  # the last
        while len(self._read) > PARTS_OPEN:
            del self._read[next(iter(self._read))]
        return part

    def __setitem__(self, name: str, part: Part) -> None:
        save_arrays(self._folder / name, part.arrays, part.facts)
        self._read.pop(name, None)


Parts = StoredParts | dict[str, Part]
"""Finished parts by name, on disk or in memory."""


def sealed_folder(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return ``folder``, first building it with ``build(empty_folder)`` where it is missing or damaged.

    A damaged folder is rebuilt after a logged warning. Of several processes one builds and the others wait; a
    process that dies while building leaves nothing under the final name. Raises OutputError where the place cannot be
    written.
    """
    if not damage(folder):
        return folder
    with _output(folder, "make room, or " + CACHE_WAY_OUT), locked(folder.parent / f".{folder.name}.lock"):
        fault = damage(folder)  # asked again: another process may have built it while this one waited
        if not fault:
            return folder
        if folder.exists():
            logger.warning("%s is damaged (%s); building it again", folder, fault)
        for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)  # of processes that died; the lock says nobody is building now
        with beside(folder) as temporary:
            build(temporary)
            write_seal(temporary)
            _replace(folder, temporary)
    return folder


def write_seal(folder: Path) -> None:
    """Write down the digest of every file of a folder, so that ``damage`` can tell."""
    seal = {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != SEAL}
    (folder / SEAL).write_text(json.dumps(seal, indent=1), encoding="utf-8")


DIGEST = "sha256"
"""The field by which a JSON file tells whether it is what was written."""


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """An object for a JSON file, with the digest of all that is in it."""
    return {**values, DIGEST: _digest(values)}


def unsealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """What ``sealed`` was given; files of earlier versions have no digest. Raises ValueError where it is another."""
    values = {name: value for name, value in content.items() if name != DIGEST}
    if DIGEST in content and content[DIGEST] != _digest(values):
        raise ValueError(f"not what was written: damaged, or changed by hand; then remove its line {DIGEST}")
    return values


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def damage(folder: Path) -> str:
    """What is wrong with a sealed folder, or an empty string."""
    try:
        seal = load_json((folder / SEAL).read_text(encoding="utf-8"))
        files = dict(seal.items())
    except (OSError, ValueError, AttributeError):
        return f"no readable {SEAL}"
    for name, digest in files.items():
        try:
            if file_digest(folder / name) != digest:
                return f"{name} is not what was written"
        except OSError:
            return f"{name} cannot be read"
    return ""


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex. Raises OSError where it cannot be read.

    A process reads a large file once while its size, place on the disk and times of change stay as they are.
    """
    about = path.stat()
    if about.st_size < LARGE:
        return _digest_of(path)
    return _large_digest(
        path.resolve(), (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    )


LARGE = 1 << 24
"""Bytes of a file whose digest is worth remembering. Small ones may change twice within a tick of the clock."""


@lru_cache(maxsize=256)
def _large_digest(path: Path, state: tuple[int, ...]) -> str:
    return _digest_of(path)


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file: of several processes one works, the others wait and say so in the log.

    The lock of a process that dies is free. Raises OutputError when the place cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    with _output(path, CACHE_WAY_OUT):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning("Waiting for another process that is at work on the same (%s).", path)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _output(path: Path, way_out: str = "") -> Iterator[None]:
    """Turn the system's errors into OutputError."""
    try:
        yield
    except OSError as error:
        hint = f": {way_out}" if way_out else ""
        raise OutputError(f"{path} cannot be written ({error.strerror or error}){hint}") from error


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """An empty folder on the same disk, so that renaming it is one step; gone when the block ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(folder)
    try:
        temporary.mkdir(parents=True)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(folder: Path, temporary: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)


def crc32(path: Path) -> int:
    """CRC-32 of a file's content. Raises OSError where it cannot be read."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value
