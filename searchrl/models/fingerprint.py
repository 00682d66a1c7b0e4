"""Names the content of a model's folder, so that whatever is computed with a model is known by it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from searchrl.errors import ModelError
from searchrl.files import SEAL, file_digest

READ = {".json", ".txt", ".model", ".jinja", ".safetensors"}
"""Kinds of file that shape a model's answers: weights, configuration, tokenizer, chat template."""

INT8_VERSION = 2
"""Raise it when ``int8.py`` gives other numbers."""

SHA256 = re.compile(r"[0-9a-f]{64}")


def folder_fingerprint(folder: Path, *settings: str | int | bool) -> str:
    """16 hex digits that change with any weight, tokenizer or configuration file, and with any of ``settings``.

    Reads every byte (about a second per 1.5 GB), except where the hub's cache already names a file by its SHA-256.
    Raises ModelError where a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted(path for path in folder.rglob("*") if path.suffix in READ and path.name != SEAL):
            content = path.resolve()
            named = content.parent.name == "blobs" and SHA256.fullmatch(content.name)
            line = f"{path.relative_to(folder).as_posix()} {content.name if named else file_digest(content)}\n"
            digest.update(line.encode())
    except OSError as error:
        raise ModelError(f"{folder} cannot be read ({error.strerror or error})") from error
    digest.update(repr(settings).encode())
    return digest.hexdigest()[:16]


def format_name(dtype: str) -> str:
    """A numeric format as fingerprints spell it."""
    return f"int8-{INT8_VERSION}" if dtype == "int8" else dtype
