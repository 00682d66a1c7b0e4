"""Write a folder so that a reader never meets half of it: under a temporary name, then renamed."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from searchrl.errors import OutputError


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``path`` when the block ends; after an error, nothing is left of it.

    Raises ``OutputError`` if ``path`` exists and is not an empty folder, or cannot be made.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")  # same disk, so the rename is atomic
    try:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise OutputError(f"{path}: exists already; choose another folder, or remove it first")
        temporary.mkdir(parents=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
