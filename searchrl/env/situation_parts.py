"""Situations as parts of a build: each state stores what it added to its parent, and is put together along its path."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from searchrl.env.actions import Action
from searchrl.env.features import Probe
from searchrl.env.game import Situation, opening
from searchrl.env.parts import Part, Parts
from searchrl.env.tree import State, Tree
from searchrl.files import Array
from searchrl.retrieval.ranking import Queries, Ranking


def state_part(node: int) -> str:
    """Name of the part that a state adds."""
    return f"state-{node}"


def situation_of(parts: Parts, tree: Tree, node: int) -> Situation:
    """Put a state's situation together; the parts of the whole path to it must be there."""
    path = tree.path(node)
    at = opening(_queries(parts[state_part(path[0])]))
    for following in path[1:]:
        at = _follow(at, tree.states[following], parts[state_part(following)])
    return at


def part_of(at: Situation, state: State) -> Part:
    """What reaching ``state`` added: a query unless it was a plain search, a ranking if anything was searched."""
    arrays: dict[str, Array] = {}
    facts: dict[str, Any] = {}
    if state.action != Action.SEARCH:
        query = at.current
        arrays |= {"vectors": query.vectors, "lexical": query.lexical}
        arrays |= {"weights": query.terms.data, "words": query.terms.indices, "starts": query.terms.indptr}
        facts |= {"texts": list(query.texts), "vocabulary": query.terms.shape[1]}
    if state.searched:
        arrays |= {"documents": at.rankings[-1].documents, "scores": at.rankings[-1].scores}
        arrays |= {"seen": at.seen, "result": at.result}
        if at.judged:
            arrays["judged"] = at.judged[-1]
        if at.probe and len(at.rankings) == 1:
            arrays |= {"probe": at.probe.features, "best_bm25": at.probe.best_bm25}
    return Part(arrays, facts)


def _follow(at: Situation, state: State, part: Part) -> Situation:
    arrays = part.arrays
    at = replace(at, step=state.step, searched=state.searched)
    if state.action != Action.SEARCH:
        at = replace(at, current=_queries(part))
    if state.searched:
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
