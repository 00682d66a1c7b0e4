"""ir_datasets: a dataset that SearchRL reads, registered under an id, for everything that reads ir_datasets.

``register("searchrl/mine", dataset)`` makes ``searchrl/mine`` known, with the documents, and ``searchrl/mine/test`` and
so on, with a split's queries and judgments; PyTerrier then knows it as ``irds:searchrl/mine/test``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from searchrl.data.dataset import Corpus, Dataset, Qrels, QuerySet
from searchrl.errors import ConfigError
from searchrl.extras import needs

with needs("irds"):
    import ir_datasets
    from ir_datasets.formats import BaseDocs, BaseQrels, BaseQueries, GenericQuery, TrecQrel
    from ir_datasets.indices import Docstore


class Document(NamedTuple):
    """One document as ir_datasets has it."""

    doc_id: str
    title: str
    text: str

    def default_text(self) -> str:
        """Title and text, as models read them."""
        return f"{self.title} {self.text}".strip()


class _Documents(Sequence[Document]):
    """A corpus as a sequence that makes its documents when asked."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def __len__(self) -> int:
        return len(self._corpus)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        corpus = self._corpus
        return Document(corpus.ids[place], corpus.titles[place], corpus.texts[place])


class _Iterator:
    """What ``docs_iter`` gives: an iterator that can be sliced."""

    def __init__(self, documents: _Documents) -> None:
        self._documents, self._rest = documents, iter(documents)

    def __iter__(self) -> Iterator[Document]:
        return self

    def __next__(self) -> Document:
        return next(self._rest)

    def __len__(self) -> int:
        return len(self._documents)

    def __getitem__(self, place: int | slice) -> Any:
        found = self._documents[place]
        return iter(found) if isinstance(place, slice) else found


class _Store(Docstore):
    def __init__(self, corpus: Corpus) -> None:
        super().__init__(Document)
        self._corpus, self._documents = corpus, _Documents(corpus)

    def get_many_iter(self, doc_ids: Sequence[str]) -> Iterator[Document]:
        position = self._corpus.position
        return (self._documents[position[i]] for i in doc_ids if i in position)


class _Docs(BaseDocs):
    def __init__(self, corpus: Corpus, name: str) -> None:
        self._corpus, self._name = corpus, name

    def docs_iter(self) -> _Iterator:
        return _Iterator(_Documents(self._corpus))

    def docs_cls(self) -> type[Document]:
        return Document

    def docs_store(self, field: str = "doc_id", **_: object) -> _Store:
        return _Store(self._corpus)

    def docs_count(self) -> int:
        return len(self._corpus)

    def docs_namespace(self) -> str:
        return self._name

    def docs_lang(self) -> None:
        return None


class _Queries(BaseQueries):
    def __init__(self, queries: QuerySet, name: str) -> None:
        self._queries, self._name = queries, name

    def queries_iter(self) -> Iterator[GenericQuery]:
        return (GenericQuery(i, text) for i, text in zip(self._queries.ids, self._queries.texts, strict=True))

    def queries_cls(self) -> Any:
        return GenericQuery

    def queries_namespace(self) -> str:
        return self._name

    def queries_lang(self) -> None:
        return None


class _Qrels(BaseQrels):
    def __init__(self, qrels: Qrels) -> None:
        self._qrels = qrels

    def qrels_iter(self) -> Iterator[TrecQrel]:
        return (
            TrecQrel(query, document, grade, "0")
            for query, judged in self._qrels.items()
            for document, grade in judged.items()
        )

    def qrels_cls(self) -> Any:
        return TrecQrel

    def qrels_defs(self) -> Mapping[int, str]:
        grades = sorted({grade for judged in self._qrels.values() for grade in judged.values()})
        return {grade: f"relevant, grade {grade}" if grade > 0 else "not relevant" for grade in grades}


def register(name: str, dataset: Dataset) -> list[str]:
    """Make a dataset known to ir_datasets; returns its ids. Raises ConfigError where one of them is taken."""
    parts: dict[str, list[Any]] = {name: [_Docs(dataset.corpus, name)]}
    for split, queries in dataset.splits.items():
        handlers = [_Docs(dataset.corpus, name), _Queries(queries, name)]
        parts[f"{name}/{split}"] = [*handlers, _Qrels(queries.qrels)] if queries.judged else handlers
    if taken := [one for one in parts if one in ir_datasets.registry]:
        raise ConfigError(f"ir_datasets has a dataset {taken[0]!r} already: choose another name")
    for one, handlers in parts.items():
        ir_datasets.registry.register(one, ir_datasets.Dataset(*handlers))
    return list(parts)
