"""Named arrays in a folder, written whole or not at all, checked when read, mapped rather than loaded.

A folder holds one ``.npy`` file an array and a ``meta.json`` with each file's CRC-32, written last. A folder appears
under its name only once it is complete.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from searchrl.errors import CacheError, OutputError

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]


def save_arrays(folder: Path, arrays: Mapping[str, Array | Callable[[], Array]], meta: Mapping[str, Any]) -> None:
    """Write arrays and JSON-able ``meta`` as ``folder``, replacing what stood there.

    An array may be given as a function that makes it: then no more than one is in memory at a time.
    Raises OutputError when the place cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        sums = {}
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array() if callable(array) else array, allow_pickle=False)
            sums[name] = _crc(temporary / f"{name}.npy")
        text = json.dumps(dict(meta))
        seal = {"meta": text, "crc32": sums, "meta_crc32": zlib.crc32(text.encode())}
        write_text(temporary / "meta.json", json.dumps(seal, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_arrays(folder: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Map a folder's arrays read-only and return them with its ``meta``.

    Raises CacheError when a file is missing or is not what was written.
    """
    try:
        content = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        sums, text = content["crc32"], content["meta"]
        if zlib.crc32(text.encode()) != content["meta_crc32"]:
            raise CacheError(f"{folder}/meta.json: not what was written.")
        meta = json.loads(text)
        for name, expected in sums.items():
            if _crc(folder / f"{name}.npy") != expected:
                raise CacheError(f"{folder / name}.npy: not what was written.")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in sums}
    except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError) as error:
        raise CacheError(f"{folder}: cannot be read ({error}).") from error
    return arrays, meta


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file: of several processes one works, the others wait and say so in the log.

    The lock of a process that dies is free. Raises OutputError when the place cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning("Waiting for another process that is at work on the same (%s).", path)
            lock.acquire()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}).") from error
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all. Raises OutputError when the place cannot be written."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes, way_out: str = "") -> None:
    """Write a file whole or not at all. Raises OutputError, which ends with ``way_out``, when it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        hint = f"; {way_out}" if way_out else ""
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}){hint}.") from error


def _crc(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value
