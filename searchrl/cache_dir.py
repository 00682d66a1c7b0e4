"""Where SearchRL keeps what it can get again: downloads, converted models, indexes, graphs, language model answers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from searchrl.errors import ConfigError, OutputError


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


def cache_dir() -> Path:
    """Return the folder that ``cache_path`` names, made if need be.

    Raises ConfigError where ``SEARCHRL_CACHE`` names something that is not a folder, OutputError where the folder
    cannot be made or written.
    """
    folder = cache_path()
    way_out = "set SEARCHRL_CACHE to a folder that can be written"
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"the cache {folder} is a file, not a folder: {way_out}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"the cache folder {folder} cannot be written ({error.strerror}): {way_out}") from error
    return folder
