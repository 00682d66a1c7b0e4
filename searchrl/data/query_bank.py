"""A bank of generated queries in one file: what made it, then a query a line.

The first line is ``{"searchrl_query_bank": 1, "model", "prompt_version", "corpus_fingerprint", "seed"}``, each further
one ``{"_id", "text", "type", "source_ids", "difficulty"}``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.data.lines import at, checked_id, checked_text, read_jsonl, write_jsonl
from searchrl.errors import DataError

FORMAT = "searchrl_query_bank"
VERSION = 1

QueryType = Literal["single", "multi", "adversarial"]


@dataclass(frozen=True)
class BankHeader:
    """What a bank was made with, so that the same command can make it again."""

    model: str
    prompt_version: str
    corpus_fingerprint: str
    seed: int


@dataclass(frozen=True)
class BankQuery:
    """One generated query, and the documents it was generated from."""

    id: str
    text: str
    type: QueryType
    source_ids: Sequence[str]
    difficulty: float | None = None
    """nDCG@10 of a single pass, its sources being what is relevant: 1 is easiest; None where it was not measured."""


@dataclass(frozen=True)
class QueryBank:
    """The header and the queries of one file, in order."""

    header: BankHeader
    queries: Sequence[BankQuery]

    def query_set(self) -> QuerySet:
        """The queries with their source documents as judgments of grade 1."""
        qrels = {q.id: dict.fromkeys(q.source_ids, 1) for q in self.queries if q.source_ids}
        return QuerySet([q.id for q in self.queries], [q.text for q in self.queries], qrels)


def write_query_bank(path: Path, bank: QueryBank) -> None:
    """Write a bank atomically."""
    header = {FORMAT: VERSION, **asdict(bank.header)}
    lines = ({"_id": (fields := asdict(query)).pop("id"), **fields} for query in bank.queries)
    write_jsonl(path, [header, *lines])


def read_query_bank(path: Path, corpus: Corpus) -> QuerySet:
    """Read a bank's queries for the corpus they were made from; sources become judgments of grade 1.

    Raises ``DataError`` as ``load_query_bank`` does, and if the bank was made from another corpus.
    """
    bank = load_query_bank(path)
    if bank.header.corpus_fingerprint != corpus.fingerprint:
        raise DataError(
            f"{path}: made for another corpus ({bank.header.corpus_fingerprint}; this one is {corpus.fingerprint}); "
            "generate queries again for this one"
        )
    for query in bank.queries:
        if unknown := [i for i in query.source_ids if i not in corpus.position]:
            raise DataError(f"{path}: query {query.id!r} names {unknown[0]!r}, which is not in the corpus")
    return bank.query_set()


def load_query_bank(path: Path) -> QueryBank:
    """Read a whole bank. Raises ``DataError`` naming file and line for a foreign, damaged or empty file."""
    lines = read_jsonl(path)
    header: BankHeader | None = None
    queries: dict[str, BankQuery] = {}
    for number, fields in lines:
        place = at(path, number)
        if header is None:
            header = _header(fields, place)
            continue
        query = _query(fields, place)
        if query.id in queries:
            raise DataError(f"{place}: the id {query.id!r} was used before")
        queries[query.id] = query
    if header is None or not queries:
        raise DataError(f"{path}: holds no queries")
    return QueryBank(header, list(queries.values()))


def _header(fields: dict[str, Any], place: str) -> BankHeader:
    if fields.get(FORMAT) != VERSION:
        found = f"version {fields[FORMAT]!r}" if FORMAT in fields else "something else"
        raise DataError(f"{place}: the header of a query bank, version {VERSION}, is expected here, found {found}")
    seed = fields.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise DataError(f"{place}: 'seed' must be an integer, not {seed!r}")
    model, prompt_version, fingerprint = (
        checked_text(fields.get(name), repr(name), place) for name in ("model", "prompt_version", "corpus_fingerprint")
    )
    return BankHeader(model, prompt_version, fingerprint, seed)


def _query(fields: dict[str, Any], place: str) -> BankQuery:
    kind: Any = fields.get("type")
    sources, difficulty = fields.get("source_ids"), fields.get("difficulty")
    if kind not in get_args(QueryType):
        raise DataError(f"{place}: 'type' must be one of {', '.join(get_args(QueryType))}, not {kind!r}")
    if not isinstance(sources, list):
        raise DataError(f"{place}: 'source_ids' must be a list, not {type(sources).__name__}")
    if difficulty is not None and not _is_number(difficulty):
        raise DataError(f"{place}: 'difficulty' must be a number or null, not {str(difficulty)[:60]!r}")
    return BankQuery(
        checked_id(fields.get("_id"), "'_id'", place),
        checked_text(fields.get("text"), "'text'", place),
        kind,
        [checked_id(source, "a source id", place) for source in sources],
        None if difficulty is None else float(difficulty),
    )


def _is_number(value: object) -> bool:
    """Whether a value out of JSON, whose integers have no end, is a number that a float holds."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, float)
