"""Datasets out of rows, however their source types them: ids become texts, grades whole numbers, null titles empty."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from searchrl.data.beir import DataWarning, keep_known
from searchrl.data.dataset import Corpus, Dataset, QuerySet, Split
from searchrl.data.records import checked_id, checked_text
from searchrl.errors import DataError

ALIASES: dict[str, Split] = {
    "train": "train",
    "dev": "dev",
    "validation": "dev",
    "valid": "dev",
    "val": "dev",
    "test": "test",
}
"""How others call a split -> ours."""

Judged = Iterable[tuple[Any, Any, Any]]
"""Query id, document id, grade."""


def splits_of(names: Iterable[str]) -> dict[Split, str]:
    """Split -> what its source calls it; a source's only split is test, whatever it is called."""
    names = list(names)
    known: dict[Split, str] = {}
    for name in names:
        if name in ALIASES:
            known.setdefault(ALIASES[name], name)
    return known or ({"test": names[0]} if len(names) == 1 else {})


def assemble(
    name: str,
    place: str,
    documents: Iterable[tuple[Any, Any, Any]],
    queries: Iterable[tuple[Any, Any]],
    judged: Mapping[Split, Judged],
) -> Dataset:
    """A dataset of (id, title, text), (id, text) and each split's judgments; queries without any are left out.

    Judgments of unknown queries or documents are dropped, with a ``DataWarning`` and a note. place: names the source in
    messages. Raises ``DataError`` for an id that is empty, has whitespace or comes twice, a grade that is no whole
    number, and where nothing is left.
    """
    texts: dict[str, tuple[str, str]] = {}
    for doc_id, title, text in documents:
        key = _id(doc_id, "document id", place)
        if key in texts:
            raise DataError(f"{place}: the document id {key!r} comes twice")
        texts[key] = (_text(title, place), _text(text, place))
    asked: dict[str, str] = {}
    for query_id, text in queries:
        key = _id(query_id, "query id", place)
        if asked.setdefault(key, _text(text, place)) != _text(text, place):
            raise DataError(f"{place}: the query id {key!r} has two texts")
    if not texts or not asked:
        raise DataError(f"{place}: holds no {'queries' if texts else 'documents'}")
    splits: dict[Split, QuerySet] = {}
    notes = []
    for split, rows in judged.items():
        qrels: dict[str, dict[str, int]] = {}
        for query_id, doc_id, grade in rows:
            qrels.setdefault(_id(query_id, "query id", place), {})[_id(doc_id, "document id", place)] = _grade(
                grade, place
            )
        known, note = keep_known(qrels, asked, texts)
        if not known:
            raise DataError(f"{place}: {split}: {note or 'holds no judgments'}; nothing is left")
        if note:
            notes.append(f"{split}: {note}")
            warnings.warn(f"{place}: {notes[-1]}", DataWarning, stacklevel=2)
        ids = [query_id for query_id in asked if query_id in known]
        splits[split] = QuerySet(ids, [asked[i] for i in ids], {i: known[i] for i in ids})
    if not splits:
        raise DataError(f"{place}: has no judgments for train, dev or test")
    titles, bodies = zip(*texts.values(), strict=True)
    return Dataset(name, Corpus(list(texts), list(titles), list(bodies)), splits, tuple(notes))


def _id(value: Any, what: str, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{place}: a {what} is {value!r:.60}: a text or a whole number is expected")
    return checked_id(str(value), what, place)


def _text(value: Any, place: str) -> str:
    return "" if value is None else checked_text(value, "a text", place)


def _grade(value: Any, place: str) -> int:
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None or whole != float(value):
        raise DataError(f"{place}: the grade {value!r:.60} is no whole number")
    return whole
