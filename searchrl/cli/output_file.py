"""A file that a command will write at its end: whether it can be, said before the work."""

from __future__ import annotations

import tempfile
from pathlib import Path

from searchrl.errors import OutputError


def check_output_file(path: Path, flag: str) -> None:
    """Make the file's folder and try it. Raises OutputError, naming the flag, where the file cannot be written."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file with {flag}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); give another {flag}") from error
