"""The finished parts of long work, a graph's build say, so that work that was killed goes on from there.

A part is what one step of the work computed. In memory, parts are a dict. On disk, each is a folder
written whole or not at all, and read by memory map: the work then holds no more than the step in flight.
A state of a build stores what it added to its parent, and is put together along its path.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from searchrl.env.features import Probe
from searchrl.env.game import State, opening
from searchrl.env.tree import Action, Node, Tree
from searchrl.errors import CacheError
from searchrl.files import Array, load_arrays, save_arrays
from searchrl.retrieval.ranking import Queries, Ranking

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


def state_part(node: int) -> str:
    """Name of the part that a state adds."""
    return f"state-{node}"


def state_of(parts: Parts, tree: Tree, node: int) -> State:
    """Put a state together; the parts of the whole path to it must be there."""
    path = tree.path(node)
    at = opening(_queries(parts[state_part(path[0])]))
    for following in path[1:]:
        at = _follow(at, tree.states[following], parts[state_part(following)])
    return at


def part_of(at: State, node: Node) -> Part:
    """What reaching ``node`` added: a query unless it was a plain search, a ranking if anything was searched."""
    arrays: dict[str, Array] = {}
    facts: dict[str, Any] = {}
    if node.action != Action.SEARCH:
        query = at.current
        arrays |= {"vectors": query.vectors, "lexical": query.lexical}
        arrays |= {"weights": query.terms.data, "words": query.terms.indices, "starts": query.terms.indptr}
        facts |= {"texts": list(query.texts), "vocabulary": query.terms.shape[1]}
    if node.searched:
        arrays |= {"documents": at.rankings[-1].documents, "scores": at.rankings[-1].scores}
        arrays |= {"seen": at.seen, "result": at.result}
        if at.judged:
            arrays["judged"] = at.judged[-1]
        if at.probe and len(at.rankings) == 1:
            arrays |= {"probe": at.probe.features, "best_bm25": at.probe.best_bm25}
    return Part(arrays, facts)


def _follow(at: State, node: Node, part: Part) -> State:
    arrays = part.arrays
    at = replace(at, step=node.step, searched=node.searched)
    if node.action != Action.SEARCH:
        at = replace(at, current=_queries(part))
    if node.searched:
        at = replace(
            at,
            rankings=(*at.rankings, Ranking(arrays["documents"], arrays["scores"])),
            seen=arrays["seen"],
            result=arrays["result"],
            judged=(*at.judged, arrays["judged"]) if "judged" in arrays else at.judged,
            probe=Probe(arrays["probe"], arrays["best_bm25"]) if "probe" in arrays else at.probe,
        )
    return at


def _queries(part: Part) -> Queries:
    from scipy import sparse

    arrays, texts = part.arrays, part.facts["texts"]
    # Copied, being small: scipy may tidy a matrix in place, and a mapped array cannot be written.
    terms = [np.array(arrays[name]) for name in ("weights", "words", "starts")]
    shape = (len(texts), part.facts["vocabulary"])
    return Queries(texts, arrays["vectors"], sparse.csr_matrix(tuple(terms), shape=shape), arrays["lexical"])
