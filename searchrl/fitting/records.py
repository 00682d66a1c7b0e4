"""JSON arrays of objects: how the stages hand records to each other, down to the preference lists that are trained on.

``query_recs.json``: ``query``, ``df_id`` (the document's row), ``query-type``. ``relevance_records_embed.json``: the
same with ``query_id`` (its place) and ``keys``, an array of ``{"key_id", "score"}``, best first; texts of keys are not
repeated there, they stand in the table of documents. ``sampled_query_key_set.json``: ``query``, ``key_ids``, ``keys``
(their texts) and ``origins`` (where each is from).

Preference lists are in ``dataset_list_train.json`` and ``dataset_list_test.json``, and in what the ADPO stages write.
A message is what a reward model reads: the query as the user's turn, the key as the assistant's. Where several turns
lead to the key, they are the query: see ``conversation``.

- pairs: ``{"query_id", "chosen_msg", "rejected_msg", "chosen_sentence_id", "rejected_sentence_id"}``
- pairs of keys: ``{"query", "chosen_key", "rejected_key"}``, each a text or a list of messages; several keys, as a list
  of texts, are each better than each rejected one
- lists: ``{"batch": [{"msg", "query_id", "key_id"}, ...], "dpo_pairs": [[better, worse], ...]}``
- ``adpo_sampled_query_key_set.json``: ``{"query", "query_id", "correspond_keys", "sampled_keys"}``, best first; sampled
  keys are compared with one another where ``sampled_levels`` tells them apart
- ``query_and_less_relevant_keys_recs.json``: ``{"query", "correspond_key", "less_relevant_keys"}``, best first
- ``query_dpo_pairs.json``: ``{"key", "queries"}``, best first; or ``{"key", "chosen_queries", "rejected_queries"}``
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from searchrl.data.records import checked_text, read_json
from searchrl.errors import DataError
from searchrl.files import write_text
from searchrl.queries.writing import QueryRec
from searchrl.retrieval.ranking import NO_DOCUMENT, Ranking

Record = dict[str, Any]


@dataclass(frozen=True)
class RankedKeys:
    """A query and the rows of the documents found for it, best first."""

    rec: QueryRec
    key_ids: Sequence[int]
    query_id: int


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON array with a record a line, whole or not at all."""
    write_text(path, "[\n" + ",\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n]\n")


def read_records(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Read (place for error messages, object) of a JSON array of objects.

    Raises DataError naming the file where it is missing, not such an array, or empty.
    """
    return placed_records(read_json(path), str(path))


def placed_records(content: object, path: str) -> list[tuple[str, dict[str, Any]]]:
    """The same of an array that is there; ``path`` names it."""
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise DataError(f"{path}: a JSON array of objects is expected")
    if not content:
        raise DataError(f"{path}: holds no records")
    return [(f"{path}, record {number}", record) for number, record in enumerate(content, start=1)]


def text_field(record: Mapping[str, Any], name: str, place: str) -> str:
    """A field that must be a text with something in it."""
    text = checked_text(record.get(name), repr(name), place)
    if not text.strip():
        raise DataError(f"{place}: {name!r} is empty")
    return text


def checked_texts(record: Mapping[str, Any], name: str, place: str) -> list[str]:
    """A field that must be a list of texts with something in them."""
    values = record.get(name)
    if not isinstance(values, list):
        raise DataError(f"{place}: {name!r} must be a list of texts")
    return [text_field({name: value}, name, place) for value in values]


def number_field(record: Mapping[str, Any], name: str, place: str, below: int) -> int:
    """A field that must be an integer from 0, below a limit."""
    value = record.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < below:
        raise DataError(f"{place}: {name!r} is {value!r}; a row's number, 0 to {below - 1}, is expected")
    return value


def family_of(record: Mapping[str, Any]) -> str:
    """The document that a record's queries were written from; empty where it does not say."""
    return f"df_id {record['df_id']}" if isinstance(record.get("df_id"), (int, str)) else ""


def group_of(record: Mapping[str, Any], text: str) -> str:
    """What a record is about: its query's id, else its document's row, else the text itself."""
    for name in ("query_id", "df_id"):
        if isinstance(record.get(name), (int, str)):
            return f"{name} {record[name]}"
    return text


def read_query_recs(path: Path, rows: int | None = None) -> list[QueryRec]:
    """Read ``query_recs.json``, or any array of objects with a ``query``.

    rows: documents there are; None where ids are not to be checked. Raises DataError naming file and record.
    """
    return [_query_rec(record, place, 2**31 if rows is None else rows) for place, record in read_records(path)]


def write_relevance(path: Path, recs: Sequence[QueryRec], ranking: Ranking) -> None:
    """Write the rankings of queries, (n, depth)."""
    records = []
    for i, rec in enumerate(recs):
        found = zip(ranking.documents[i].tolist(), ranking.scores[i].tolist(), strict=True)
        keys = [{"key_id": key, "score": round(score, 6)} for key, score in found if key != NO_DOCUMENT]
        records.append({"query_id": i, **rec.record(), "keys": keys})
    write_records(path, records)


def read_relevance(path: Path, rows: int) -> list[RankedKeys]:
    """Read rankings of ``rows`` documents. Raises DataError naming file and record."""
    ranked = []
    for number, (place, record) in enumerate(read_records(path)):
        keys: Any = record.get("keys")
        if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
            raise DataError(f"{place}: 'keys' must be an array of objects with a 'key_id'")
        rec = _query_rec(record, place, rows)
        ids = list(dict.fromkeys(number_field(key, "key_id", place, rows) for key in keys))
        ranked.append(RankedKeys(rec, ids, number))
    return ranked


def read_sampled(path: Path) -> list[dict[str, Any]]:
    """Read records with as many ``key_ids`` and ``origins`` as ``keys``, two at least. Raises DataError."""
    records = []
    for place, record in read_records(path):
        keys = checked_texts(record, "keys", place)
        ids, origins = record.get("key_ids"), record.get("origins", ["unknown"] * len(keys))
        if len(keys) < 2 or any(not isinstance(part, list) or len(part) != len(keys) for part in (ids, origins)):
            raise DataError(f"{place}: two 'keys' at least are expected, and as many 'key_ids' and 'origins'")
        query = text_field(record, "query", place)
        records.append({**record, "query": query, "query_id": record.get("query_id", query), "origins": origins})
    return records


def _query_rec(record: Mapping[str, Any], place: str, rows: int) -> QueryRec:
    df_id = number_field(record, "df_id", place, rows) if record.get("df_id") is not None else None
    return QueryRec(text_field(record, "query", place), df_id, str(record.get("query-type", "")))


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
    def members(self) -> list[tuple[str, str]]:
        """The (query, document) pairs."""
        return list(zip(self.queries, self.documents, strict=True))

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Places of (better, worse), every combination of unequal levels."""
        places = range(len(self))
        return [(i, j) for i, j in product(places, places) if self.levels[i] > self.levels[j]]


def held_out(family: str, seed: int, share: float, drawn: str = "held out") -> bool:
    """Whether a family falls into the share to be tested on; depends on its name, seed and the draw's name alone."""
    draw = hashlib.sha256(json.dumps([seed, drawn, family]).encode()).digest()
    return int.from_bytes(draw[:6], "big") / 2**48 < share


def read_lists(path: Path) -> list[PreferenceList]:
    """Read any of these files. Raises DataError naming file and record where it is none of them, or holds nothing."""
    return lists_of(read_records(path))


def lists_of(records: Iterable[tuple[str, Record]]) -> list[PreferenceList]:
    """The lists of (place for error messages, record). Raises DataError as ``read_lists``."""
    lists: list[PreferenceList] = []
    for place, record in records:
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


def _keys(record: Record, place: str) -> list[PreferenceList]:
    query = _said(record.get("query"), f"{place}, 'query'")
    chosen, rejected = (_key_texts(record.get(name), f"{place}, {name!r}") for name in ("chosen_key", "rejected_key"))
    levels = [1] * len(chosen) + [0] * len(rejected)
    return _list(record, place, query, [query] * len(levels), chosen + rejected, levels)


def _key_texts(value: object, place: str) -> list[str]:
    """One key, or several as a list of texts."""
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return [_said(one, place) for one in value]
    return [_said(value, place)]


def _said(value: object, place: str) -> str:
    """A text, or what a list of messages comes to."""
    if isinstance(value, list):
        return conversation(value, place)
    if not isinstance(value, str):
        raise DataError(f"{place}: must be a text or a list of messages, not {type(value).__name__}")
    return text_field({"text": value}, "text", place)


def conversation(messages: Sequence[object], place: str = "messages") -> str:
    """Turns as the one text that they are read as: a single turn is its content, of several each begins with its role,
    as ``user: ...``, and they stand one below the other. Raises DataError where one is no ``{"role", "content"}``.
    """
    turns = []
    for turn in messages:
        if not isinstance(turn, dict) or not isinstance(turn.get("role"), str):
            raise DataError(f"{place}: a list of messages is expected, {{'role', 'content'}} each")
        turns.append((turn["role"], text_field(turn, "content", place)))
    if not turns:
        raise DataError(f"{place}: is empty")
    return turns[0][1] if len(turns) == 1 else "\n".join(f"{role}: {content}" for role, content in turns)


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
    queries, documents = [q for q, _ in turns], [d for _, d in turns]
    return _list(named, place, queries[0] if turns else "", queries, documents, levels)


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
    return _list(record, place, query, [query] * len(keys), keys)


def _query_ladder(record: Record, place: str) -> list[PreferenceList]:
    key, queries = text_field(record, "key", place), checked_texts(record, "queries", place)
    return _list(record, place, key, queries, [key] * len(queries))


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
    queries = [query] * (len(best) + len(others))
    return _list(record, place, query, queries, best + others, [top] * len(best) + levels)


def _list(
    record: Record,
    place: str,
    about: str,
    queries: Sequence[str],
    documents: Sequence[str],
    levels: Sequence[int] | None = None,
) -> list[PreferenceList]:
    """The one list of a record; without ``levels`` its pairs stand best first."""
    levels = range(len(queries))[::-1] if levels is None else levels
    if len(set(levels)) < 2:
        raise DataError(f"{place}: nothing in it is better than anything else")
    return [PreferenceList(queries, documents, list(levels), group_of(record, about), family_of(record))]


def _turns(messages: object, place: str) -> tuple[str, str]:
    """The query, what is said before the last turn, and the key, the assistant's last turn, of a conversation."""
    roles = [m.get("role") if isinstance(m, dict) else None for m in messages] if isinstance(messages, list) else []
    if isinstance(messages, list) and "user" in roles[:-1] and roles[-1] == "assistant":
        return conversation(messages[:-1], place), text_field(messages[-1], "content", place)
    raise DataError(
        f"{place}: a user's message (the query) and an assistant's last (the key) are expected, "
        "{'role', 'content'} each"
    )


READERS: dict[str, Callable[[Record, str], list[PreferenceList]]] = {
    "chosen_msg": _pair,
    "chosen_key": _keys,
    "batch": _batch,
    "correspond_keys": _sampled,
    "correspond_key": _key_ladder,
    "queries": _query_ladder,
    "chosen_queries": _query_pairs,
}
"""A field that only one kind of record has -> its reader."""
