"""Files of preferences: ``dataset_list_train.json`` and ``dataset_list_test.json``, and what the ADPO stages write.

All are JSON arrays. A message is what a reward model reads: the query as the user's turn, the key as the assistant's.

- pairs: ``{"query_id", "chosen_msg", "rejected_msg", "chosen_sentence_id", "rejected_sentence_id"}``
- lists: ``{"batch": [{"msg", "query_id", "key_id"}, ...], "dpo_pairs": [[better, worse], ...]}``
- ``adpo_sampled_query_key_set.json``: ``{"query", "query_id", "correspond_keys", "sampled_keys"}``, best first; sampled
  keys are compared with one another where ``sampled_levels`` tells them apart
- ``query_and_less_relevant_keys_recs.json``: ``{"query", "correspond_key", "less_relevant_keys"}``, best first
- ``query_dpo_pairs.json``: ``{"key", "queries"}``, best first; or ``{"key", "chosen_queries", "rejected_queries"}``
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from searchrl.errors import DataError
from searchrl.fitting.json_records import (
    checked_texts,
    family_of,
    group_of,
    read_records,
    text_field,
    write_records,
)
from searchrl.fitting.lists import PreferenceList

Record = dict[str, Any]


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


def write_lists(path: Path, lists: Sequence[PreferenceList]) -> None:
    """Write lists so that ``read_lists`` gives them back, their levels counted from 0."""
    records = []
    for one in lists:
        members = zip(one.queries, one.documents, strict=True)
        batch = [{"msg": message(query, document), "query_id": one.group} for query, document in members]
        records.append({"batch": batch, "dpo_pairs": [list(pair) for pair in one.pairs]})
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
