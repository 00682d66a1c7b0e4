"""What a reward model is trained on: short lists of (query, document) pairs, some better than others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product


@dataclass(frozen=True)
class PreferenceList:
    """Two or more (query, document) pairs that compete. Usually one query and its documents; or one document and
    queries that it answers ever less.
    """

    queries: Sequence[str]
    documents: Sequence[str]
    levels: Sequence[int]
    """Of each pair: higher is more relevant. Pairs of the same level are not compared."""
    group: str
    """What its competitors have in common: a query's id, say."""
    family: str = ""
    """What is not to be divided between training and test, such as all queries of a document; by default the group."""

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Places of (better, worse), every combination of unequal levels."""
        places = range(len(self))
        return [(i, j) for i, j in product(places, places) if self.levels[i] > self.levels[j]]


def joined(lists: Sequence[PreferenceList]) -> list[PreferenceList]:
    """The same preferences, pairs of one query with the same better document as one list: it is scored but once."""
    kept: dict[object, PreferenceList] = {}
    for place, one in enumerate(lists):
        key: object = place
        if len(one) == 2 and one.levels[0] > one.levels[1] and one.queries[0] == one.queries[1]:
            key = (one.group, one.family, one.queries[0], one.documents[0])
        if key in kept:
            first, worse = kept[key], one.documents[1]
            if worse not in first.documents:
                queries, documents = [*first.queries, one.queries[1]], [*first.documents, worse]
                kept[key] = replace(first, queries=queries, documents=documents, levels=[*first.levels, 0])
        else:
            kept[key] = one if key is place else replace(one, levels=[1, 0])
    return list(kept.values())


def fingerprint(lists: Iterable[PreferenceList]) -> str:
    """16 hex digits that change with any text, level or place."""
    digest = hashlib.sha256()
    for one in lists:
        fields = [list(one.queries), list(one.documents), list(one.levels), one.group]
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()[:16]


def held_out(family: str, seed: int, share: float) -> bool:
    """Whether a family falls into the share to be tested on; depends on its name and the seed alone."""
    draw = hashlib.sha256(json.dumps([seed, "held out", family]).encode()).digest()
    return int.from_bytes(draw[:6], "big") / 2**48 < share


def divide(
    lists: Sequence[PreferenceList], seed: int, share: float
) -> tuple[list[PreferenceList], list[PreferenceList]]:
    """Lists to train on and lists to test on; no family is in both."""
    test = [held_out(one.family or one.group, seed, share) for one in lists]
    return [x for x, t in zip(lists, test, strict=True) if not t], [x for x, t in zip(lists, test, strict=True) if t]
