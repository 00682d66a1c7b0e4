"""A folder that is built once, by one process, and is known to be whole whenever it is used again."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from searchrl.errors import OutputError

logger = logging.getLogger(__name__)

SEAL = "seal.json"
"""File name -> SHA-256 of every other file in the folder; written last."""


def sealed_folder(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return ``folder``, first building it with ``build(empty_folder)`` where it is missing or damaged.

    A damaged folder is rebuilt after a logged warning. Of several processes one builds and the others wait; a
    process that dies while building leaves nothing under the final name. Raises OutputError where the place cannot be
    written.
    """
    from filelock import FileLock

    if not damage(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            fault = damage(folder)  # asked again: another process may have built it while this one waited
            if fault and folder.exists():
                logger.warning("%s is damaged (%s); building it again", folder, fault)
            if fault:
                _build(folder, build)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror or error}): "
            "make room, or set SEARCHRL_CACHE to another folder"
        ) from error
    return folder


def damage(folder: Path) -> str:
    """What is wrong with a sealed folder, or an empty string."""
    try:
        seal = json.loads((folder / SEAL).read_text(encoding="utf-8"))
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
    """SHA-256 of a file's content, in hex. Raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)  # of processes that died; the lock says nobody is building now
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        build(temporary)
        seal = {path.name: file_digest(path) for path in sorted(temporary.iterdir())}
        (temporary / SEAL).write_text(json.dumps(seal, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
