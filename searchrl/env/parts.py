"""The finished parts of long work, a graph's build say, so that work that was killed goes on from there.

A part is what one step of the work computed. In memory, parts are a dict. On disk, each is a folder
written whole or not at all, and read by memory map: the work then holds no more than the step in flight.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from searchrl.errors import CacheError
from searchrl.files import Array, load_arrays, save_arrays

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """What one step computed: arrays, and facts that JSON can hold."""

    arrays: Mapping[str, Array]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Parts(Protocol):
    """Parts by name; a dict will do."""

    def __contains__(self, name: object, /) -> bool:
        """Whether a part is finished."""
        ...

    def __getitem__(self, name: str, /) -> Part:
        """A finished part."""
        ...

    def __setitem__(self, name: str, part: Part, /) -> None:
        """Keep a part."""
        ...


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
        if name not in self._read:
            self._read[name] = Part(*load_arrays(self._folder / name))
        return self._read[name]

    def __setitem__(self, name: str, part: Part) -> None:
        save_arrays(self._folder / name, part.arrays, part.facts)
        self._read.pop(name, None)
