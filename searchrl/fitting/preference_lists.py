"""What a reward model is trained on: short lists of (query, document) pairs, some better than others; and their files.

The files are ``dataset_list_train.json`` and ``dataset_list_test.json``, and what the ADPO stages write.

All are JSON arrays. A message is what a reward model reads: the query as the user's turn, the key as the assistant's.

- pairs: ``{"query_id", "chosen_msg", "rejected_msg", "chosen_sentence_id", "rejected_sentence_id"}``
- lists: ``{"batch": [{"msg", "query_id", "key_id"}, ...], "dpo_pairs": [[better, worse], ...]}``
- ``adpo_sampled_query_key_set.json``: ``{"query", "query_id", "correspond_keys", "sampled_keys"}``, best first; sampled
  keys are compared with one another where ``sampled_levels`` tells them apart
- ``query_and_less_relevant_keys_recs.json``: ``{"query", "correspond_key", "less_relevant_keys"}``, best first
- ``query_dpo_pairs.json``: ``{"key", "queries"}``, best first; or ``{"key", "chosen_queries", "rejected_queries"}``
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from searchrl.errors import DataError
from searchrl.fitting.records import checked_texts, family_of, group_of, read_records, text_field, write_records

Record = dict[str, Any]


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


def read_lists(path: Path) -> list[PreferenceList]:
    """Read any of these files. Raises DataError naming file and record where it is none of them, or holds nothing."""
    lists: list[PreferenceList] = []
    for place, record in read_records(path):
        for mark, reader in READERS.items():
            if mark in record:
                lists += reader(record, place)
                break
        else:
            raise DataError(
                f"{place}: no preferences: one of the fields {', '.join(READERS)} is expected, "
                f"found {', '.join(record) or 'nothing'}"
            )
    return lists


def write_pairs(path: Path, pairs: Sequence[Record]) -> None:
    """Write pairs as records: each of ``query``, ``chosen``, ``rejected`` (texts), and fields that are kept as they
    are.
    """
    records = []
    for pair in pairs:
        rest = {name: value for name, value in pair.items() if name not in ("query", "chosen", "rejected")}
        messages = {f"{name}_msg": message(pair["query"], pair[name]) for name in ("chosen", "rejected")}
        records.append({**messages, **rest})
    write_records(path, records)


def message(query: str, key: str) -> list[dict[str, str]]:
    """A conversation that a reward model scores."""
    return [{"role": "user", "content": query}, {"role": "assistant", "content": key}]


def _pair(record: Record, place: str) -> list[PreferenceList]:
    (query, chosen), (other, rejected) = (
        _turns(record.get(name), f"{place}, {name!r}") for name in ("chosen_msg", "rejected_msg")
    )
    return [PreferenceList([query, other], [chosen, rejected], [1, 0], group_of(record, query), family_of(record))]


def _batch(record: Record, place: str) -> list[PreferenceList]:
    batch, pairs = record["batch"], record.get("dpo_pairs")
    if not isinstance(batch, list) or not isinstance(pairs, list):
        raise DataError(f"{place}: 'batch' and 'dpo_pairs' must be lists")
    turns = [
        _turns(one.get("msg") if isinstance(one, dict) else None, f"{place}, 'batch' {i}")
        for i, one in enumerate(batch)
    ]
    for pair in pairs:
        if not (
            isinstance(pair, list)
            and len(pair) == 2
            and all(type(i) is int and 0 <= i < len(batch) for i in pair)
            and pair[0] != pair[1]
        ):
            raise DataError(f"{place}: {str(pair)[:40]} in 'dpo_pairs' is not two different places in 'batch'")
    levels = _levels(len(batch), pairs, place)
    named = {**batch[0], **record} if batch else record
    group = group_of(named, turns[0][0] if turns else "")
    return _list([q for q, _ in turns], [d for _, d in turns], levels, group, family_of(named), place)


def _levels(size: int, pairs: Sequence[Sequence[int]], place: str) -> list[int]:
    """The highest chain of worse ones below each: what the pairs say of an order."""
    levels = [0] * size
    for _ in range(size):
        before = list(levels)
        for better, worse in pairs:
            levels[better] = max(levels[better], levels[worse] + 1)
        if levels == before:
            return levels
    raise DataError(f"{place}: 'dpo_pairs' go in a circle: something in 'batch' is better than itself")


def _key_ladder(record: Record, place: str) -> list[PreferenceList]:
    query = text_field(record, "query", place)
    keys = [text_field(record, "correspond_key", place), *checked_texts(record, "less_relevant_keys", place)]
    return _list([query] * len(keys), keys, _falling(keys), group_of(record, query), family_of(record), place)


def _query_ladder(record: Record, place: str) -> list[PreferenceList]:
    key, queries = text_field(record, "key", place), checked_texts(record, "queries", place)
    return _list(queries, [key] * len(queries), _falling(queries), group_of(record, key), family_of(record), place)


def _query_pairs(record: Record, place: str) -> list[PreferenceList]:
    key = text_field(record, "key", place)
    chosen, rejected = (checked_texts(record, name, place) for name in ("chosen_queries", "rejected_queries"))
    if len(chosen) != len(rejected):
        raise DataError(f"{place}: {len(chosen)} 'chosen_queries' and {len(rejected)} 'rejected_queries'")
    group, family = group_of(record, key), family_of(record)
    pairs = zip(chosen, rejected, strict=True)
    return [PreferenceList(list(pair), [key, key], [1, 0], group, family) for pair in pairs]


def _sampled(record: Record, place: str) -> list[PreferenceList]:
    query = text_field(record, "query", place)
    best, others = (checked_texts(record, name, place) for name in ("correspond_keys", "sampled_keys"))
    levels = record.get("sampled_levels", [0] * len(others))
    if not isinstance(levels, list) or len(levels) != len(others) or any(type(x) is not int for x in levels):
        raise DataError(f"{place}: 'sampled_levels' must be as many integers as there are 'sampled_keys'")
    top = max(levels, default=0) + 1
    queries, group = [query] * (len(best) + len(others)), group_of(record, query)
    return _list(queries, best + others, [top] * len(best) + levels, group, family_of(record), place)


def _list(
    queries: Sequence[str], documents: Sequence[str], levels: Sequence[int], group: str, family: str, place: str
) -> list[PreferenceList]:
    if len(set(levels)) < 2:
        raise DataError(f"{place}: nothing in it is better than anything else")
    return [PreferenceList(queries, documents, levels, group, family)]


def _falling(items: Sequence[str]) -> list[int]:
    return list(range(len(items)))[::-1]


def _turns(messages: object, place: str) -> tuple[str, str]:
    """The user's and the assistant's text of a conversation."""
    if isinstance(messages, list) and [m.get("role") for m in messages if isinstance(m, dict)] == ["user", "assistant"]:
        query, key = (text_field(turn, "content", place) for turn in messages)
        return query, key
    raise DataError(
        f"{place}: a user's message (the query) and an assistant's (the key) are expected, {{'role', 'content'}} each"
    )


READERS: dict[str, Callable[[Record, str], list[PreferenceList]]] = {
    "chosen_msg": _pair,
    "batch": _batch,
    "correspond_keys": _sampled,
    "correspond_key": _key_ladder,
    "queries": _query_ladder,
    "chosen_queries": _query_pairs,
}
"""A field that only one kind of record has -> its reader."""
