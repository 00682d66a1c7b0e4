"""A bank of generated queries in one file: what made it, then a query a line.

The first line is ``{"searchrl_query_bank": 1, "model", "prompt_version", "corpus_fingerprint", "seed", "judge",
"settings"}`` (the last two may be missing), each further one ``{"_id", "text", "type", "source_ids", "difficulty"}``.

A JSON list (``query_bank.json``) is read too: ``{"query", "documents", "type"}``, where documents are ids, or an object
of ids and their grades, and the type may be missing. It does not say which corpus it was made from.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from searchrl.data.dataset import Corpus, Dataset, QuerySet, Split, with_dev_split
from searchrl.data.records import at, checked_id, checked_text, read_bytes, read_json, read_jsonl, write_jsonl
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
    judge: str | None = None
    """Who compared the sources with other documents; None where nobody did, or the bank does not say."""
    settings: Mapping[str, int] = field(default_factory=dict)
    """How much was asked for; empty in banks that do not say."""


@dataclass(frozen=True)
class BankQuery:
    """One generated query, and the documents it was generated from."""

    id: str
    text: str
    type: QueryType
    source_ids: Sequence[str]
    difficulty: float | None = None
    """nDCG@10 of a single pass, its sources being what is relevant: 1 is easiest; None where it was not measured."""
    grades: Mapping[str, int] = field(default_factory=dict)
    """How relevant a source is, where that is not 1."""


@dataclass(frozen=True)
class QueryBank:
    """The header and the queries of one file, in order."""

    header: BankHeader
    queries: Sequence[BankQuery]

    def query_set(self) -> QuerySet:
        """The queries with their source documents as judgments, of grade 1 where nothing else is said."""
        qrels = {q.id: {d: q.grades.get(d, 1) for d in q.source_ids} for q in self.queries if q.source_ids}
        return QuerySet([q.id for q in self.queries], [q.text for q in self.queries], qrels)

    def splits(self, seed: int) -> dict[Split, QuerySet]:
        """``train`` and ``dev``: all questions that begin from the same document go to the same side.

        Which documents go to dev is chosen as ``with_dev_split`` chooses queries. With one document, all is train.
        """
        first = {q.id: q.source_ids[0] for q in self.queries if q.source_ids}
        documents = list(dict.fromkeys(first.values()))
        chosen = with_dev_split(Dataset("", Corpus([], [], []), {"train": QuerySet(documents, documents)}), seed)
        dev = set(chosen.splits["dev"].ids) if "dev" in chosen.splits else set()
        sides: dict[Split, list[BankQuery]] = {
            "train": [q for q in self.queries if first.get(q.id) not in dev],
            "dev": [q for q in self.queries if first.get(q.id) in dev],
        }
        return {split: QueryBank(self.header, side).query_set() for split, side in sides.items() if side}


def write_query_bank(path: Path, bank: QueryBank) -> None:
    """Write a bank atomically."""
    header = {FORMAT: VERSION, **asdict(bank.header)}
    lines = ({"_id": (fields := asdict(query)).pop("id"), **fields} for query in bank.queries)
    lines = ({name: value for name, value in line.items() if name != "grades"} for line in lines)
    write_jsonl(path, [header, *lines])


def load_query_bank_for(path: Path, corpus: Corpus) -> QueryBank:
    """Read a bank. Raises ``DataError`` as ``load_query_bank`` does, and if it was made from another corpus."""
    bank = load_query_bank(path)
    if bank.header.corpus_fingerprint not in ("", corpus.fingerprint):
        raise DataError(
            f"{path}: made for another corpus ({bank.header.corpus_fingerprint}; this one is {corpus.fingerprint}); "
            "generate queries again for this one"
        )
    for query in bank.queries:
        if unknown := [i for i in query.source_ids if i not in corpus.position]:
            raise DataError(f"{path}: query {query.id!r} names {unknown[0]!r}, which is not in the corpus")
    return bank


def load_query_bank(path: Path) -> QueryBank:
    """Read a whole bank. Raises ``DataError`` naming file and line for a foreign, damaged or empty file."""
    if read_bytes(path)[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        return _read_list(path)
    header: BankHeader | None = None
    queries: dict[str, BankQuery] = {}
    for number, fields in read_jsonl(path):
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


def _read_list(path: Path) -> QueryBank:
    """The queries of a JSON list, numbered where they have no ids."""
    content, queries = read_json(path), {}
    for number, fields in enumerate(content, start=1):
        place = f"{path}, query {number}"
        if not isinstance(fields, dict):
            raise DataError(f"{place}: an object of query, documents and type is expected")
        documents = fields.get("documents")
        if not isinstance(documents, list | dict):
            raise DataError(f"{place}: 'documents' must be a list of ids, or an object of ids and grades")
        grades = documents if isinstance(documents, dict) else {}
        for grade in grades.values():
            if type(grade) is not int or abs(grade) > 2**31:
                raise DataError(f"{place}: 'documents': the grade {str(grade)[:60]!r} must be an integer")
        fields = {
            "_id": fields.get("_id", f"generated-{number}"),
            "text": fields.get("query"),
            "type": fields.get("type", "single"),
            "source_ids": list(documents),
        }
        query = replace(_query(fields, place), grades=grades)
        if query.id in queries:
            raise DataError(f"{place}: the id {query.id!r} was used before")
        queries[query.id] = query
    if not queries:
        raise DataError(f"{path}: holds no queries")
    return QueryBank(BankHeader("unknown", "", "", 0), list(queries.values()))


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
    judge, settings = fields.get("judge"), fields.get("settings", {})
    if not isinstance(settings, dict) or not all(isinstance(value, int) for value in settings.values()):
        raise DataError(f"{place}: 'settings' must be an object of integers, not {str(settings)[:60]!r}")
    return BankHeader(
        model,
        prompt_version,
        fingerprint,
        seed,
        None if judge is None else checked_text(judge, "'judge'", place),
        {checked_text(name, "a setting's name", place): value for name, value in settings.items()},
    )


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
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return whole or isinstance(value, float)
