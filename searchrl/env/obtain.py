"""Get a search graph: the stored one where there is one, else built and stored."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

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
