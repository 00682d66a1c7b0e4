"""Every error SearchRL raises on purpose, so that a user's mistake never ends in a traceback.

The commands print its message in one line and exit with code 2, or 1 where training
diverged. It names the file, line or value at fault, and the way out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class SearchRLError(Exception):
    """Base of all errors that a user can do something about."""


class ConfigError(SearchRLError):
    """A setting is unknown, impossible, or contradicts another."""


class DataError(SearchRLError):
    """A corpus, query, qrels or ranking file is missing, damaged or empty."""


class DownloadError(DataError):
    """A dataset could not be fetched, or what came is not what was asked for."""


class ModelError(SearchRLError):
    """A model is not available, or does not do what its role needs."""


class EngineError(SearchRLError):
    """A model server does not answer, refuses, lacks what is asked of it, or answers otherwise than it should."""

    def __init__(self, message: str, answered: Mapping[int, Any] | None = None) -> None:
        super().__init__(message)
        self.answered: Mapping[int, Any] = answered or {}
        """What the failed call was answered all the same: place among its inputs -> answer. To be kept."""


class CheckpointError(SearchRLError):
    """A checkpoint or run folder is truncated, foreign, or made for something else."""


class CacheError(SearchRLError):
    """A stored index, graph or language-model cache is damaged."""


class DivergedError(SearchRLError):
    """Training came to numbers that are none, or too large for any."""


class DeviceError(SearchRLError):
    """The device that was asked for is not available."""


class OutputError(SearchRLError):
    """A result cannot be written where it was asked to go."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Say which valid names come closest to a wrong one: ``did you mean 'dense'? Valid: dense, hybrid``."""
    names = sorted(valid)
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=3, cutoff=0.5)
    hits = [n for n in names if n.lower() in close]
    hint = f"did you mean {' or '.join(repr(h) for h in hits)}? " if hits else ""
    return f"{hint}Valid: {', '.join(names)}"


def reason(error: BaseException) -> str:
    """Another library's error in one line: the first of its message, or its kind where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
