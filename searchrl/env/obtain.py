"""Get a search graph: the stored one where there is one, else built, under a bar if wanted, and stored."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from searchrl.data.dataset import QuerySet
from searchrl.env.build import GraphSettings, OnProgress, build_graph, describe, finish
from searchrl.env.game import Game
from searchrl.env.graph import SearchGraph, fingerprint, load_graph
from searchrl.env.parts import StoredParts
from searchrl.errors import CacheError
from searchrl.files import locked, save_arrays

logger = logging.getLogger(__name__)


def obtain_graph(
    game: Game,
    queries: QuerySet,
    settings: GraphSettings,
    cache: Path | None,
    on_progress: OnProgress | None = None,
) -> SearchGraph:
    """Load the stored graph of these queries, or build and store it. A damaged one is rebuilt after a log warning.

    A build that was killed goes on where it stopped. Of several processes that want the same graph one builds it and
    the others wait. Raises OutputError where the cache cannot be written.
    """
    if cache is None:
        return build_graph(game, queries, settings, on_progress)
    name = fingerprint(describe(game, queries, settings))
    folder = cache / "graphs" / name
    with locked(cache / "locks" / f"graph-{name}.lock"):
        graph = _load(folder)
        if graph is None:
            parts = StoredParts(folder.with_name(f".{name}.parts"))
            save_arrays(folder, *finish(game, queries, settings, parts, on_progress))
            graph = load_graph(folder)
        for leftover in folder.parent.glob(f".{name}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
    return graph


def _load(folder: Path) -> SearchGraph | None:
    try:
        return load_graph(folder) if folder.exists() else None
    except CacheError as error:
        logger.warning("The stored graph is damaged and will be rebuilt: %s", error)
        return None


class BuildBar:
    """A bar for each stage that ``obtain_graph`` reports, with units/s and the time left; none for a graph only loaded.

    What a killed build had finished stands in the bar from the beginning and does not count as speed.
    """

    def __init__(self, title: str, show: bool = True) -> None:
        self._title = title
        self._show = show
        self._bar: Any = None
        self._stage = ""

    def __call__(self, stage: str, unit: str, done: int, total: int) -> None:
        """``done`` of ``total`` units of a stage are finished; the first call of a stage comes before its work."""
        from tqdm import tqdm

        if stage != self._stage:
            self._close()
            self._stage = stage
            title = f"{self._title}: {stage}"
            self._bar = tqdm(desc=title, unit=unit, initial=done, total=total, disable=not self._show, leave=False)
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> BuildBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
