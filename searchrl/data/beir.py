"""Datasets as folders in the BEIR layout: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/{train,dev,test}.tsv``.

The layout is that of BEIR (Thakur et al. 2021, arXiv:2104.08663). A qrels file has one header line, then
``query-id <tab> corpus-id <tab> score``.

TREC's files will do, too: ``topics.txt`` (``topics.py`` has the names) in place of ``queries.jsonl``, and qrels of four
columns as ``qrels/test.tsv``, ``qrels/test.txt`` or ``qrels.txt``, which is test.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, cast

from searchrl.data.dataset import SPLITS, Corpus, Dataset, Qrels, QuerySet, Split
from searchrl.data.on_disk import LineDocuments
from searchrl.data.records import (
    at,
    checked_id,
    documents,
    is_packed,
    numbered_lines,
    plain_or_gz,
    read_records,
    write_jsonl,
)
from searchrl.data.topics import NAMES as TOPICS
from searchrl.data.topics import read_topics
from searchrl.errors import DataError
from searchrl.files import new_folder, write_text

HEADER = ("query-id", "corpus-id", "score")
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")


IN_MEMORY = 1 << 28
"""Bytes of a corpus that is read into memory; of a larger one, 256 MB, texts stay on the disk."""


class DataWarning(UserWarning):
    """Something in a dataset was left out; the results stand for what is left."""


def read_beir_folder(path: Path, name: str | None = None) -> Dataset:
    """Read a dataset folder; its name is the folder's unless given. Splits without a qrels file are absent.

    A split's queries are those with judgments in its qrels file, in the order of ``queries.jsonl``. Judgments that
    name unknown queries or documents are dropped, with a ``DataWarning`` and a note on the dataset. Raises
    ``DataError`` naming file and line for everything else that is wrong.
    """
    present = _splits_present(path)
    loader = _checked_loader(path)
    loader._load_corpus()
    corpus = loader.documents
    splits: dict[Split, QuerySet] = {}
    for split in present:
        _, queries, qrels = loader.load(split)
        splits[split] = QuerySet(list(queries), list(queries.values()), qrels)
    for note in loader.notes:
        warnings.warn(f"{path}: {note}", DataWarning, stacklevel=2)
    return Dataset(name or path.resolve().name, corpus, splits, tuple(loader.notes))


def read_corpus(path: Path) -> Corpus:
    """Read a ``corpus.jsonl``; a large one is read through, and its texts again whenever they are asked for."""
    if path.is_file() and path.stat().st_size > IN_MEMORY and not is_packed(path):
        return LineDocuments(path).corpus()
    ids, titles, texts = zip(*(document for _, document in documents(path)), strict=True)
    return Corpus(list(ids), list(titles), list(texts))


def write_beir_folder(dataset: Dataset, path: Path) -> None:
    """Write a dataset as a new folder that ``read_beir_folder`` gives back; the folder appears when complete.

    Raises ``DataError`` for what the layout cannot hold: a query without judgments, or one id with two texts.
    Raises ``OutputError`` if the folder exists already or cannot be written.
    """
    texts: dict[str, str] = {}
    for split, queries in dataset.splits.items():
        for query_id, text in zip(queries.ids, queries.texts, strict=True):
            if not queries.qrels.get(query_id):
                raise DataError(f"{split}: query {query_id!r} has no judgments, which a BEIR folder cannot hold")
            if texts.setdefault(query_id, text) != text:
                raise DataError(f"{split}: query {query_id!r} has another text in another split")
    corpus = dataset.corpus
    records = (
        {"_id": i, "title": title, "text": text}
        for i, title, text in zip(corpus.ids, corpus.titles, corpus.texts, strict=True)
    )
    with new_folder(path) as folder:
        write_jsonl(folder / "corpus.jsonl", records)
        write_jsonl(folder / "queries.jsonl", ({"_id": i, "text": text} for i, text in texts.items()))
        for split, queries in dataset.splits.items():
            write_qrels(folder / "qrels" / f"{split}.tsv", {i: queries.qrels[i] for i in queries.ids})


def _splits_present(folder: Path) -> list[Split]:
    """Which splits have a qrels file; everything that is missing is said at once."""
    if not folder.is_dir():
        raise DataError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    splits = [split for split in SPLITS if qrels_file(folder, split).is_file()]
    missing = [] if plain_or_gz(folder / "corpus.jsonl").is_file() else ["corpus.jsonl"]
    if not _queries_file(folder).is_file():
        missing.append("queries.jsonl")
    if not splits:
        missing.append("any of qrels/train.tsv, qrels/dev.tsv, qrels/test.tsv")
    if missing:
        raise DataError(f"{folder}: not a dataset in the BEIR layout; missing: {'; '.join(missing)}")
    return splits


def qrels_file(folder: Path, split: Split) -> Path:
    """A split's judgments in a folder; the first of the places where they may lie if they are in none."""
    names = [f"qrels/{split}.tsv", f"qrels/{split}.txt", *(["qrels.txt"] if split == "test" else [])]
    return _first(folder, names)


def _queries_file(folder: Path) -> Path:
    return _first(folder, ["queries.jsonl", *TOPICS])


def _first(folder: Path, names: Sequence[str]) -> Path:
    files = [plain_or_gz(folder / name) for name in names]
    return next((file for file in files if file.is_file()), files[0])


def _checked_loader(folder: Path) -> Any:
    """beir's ``GenericDataLoader``, its three readers replaced by ones that trace each fault to file and line.

    beir's own readers give up on a byte order mark or a blank line, say nothing of duplicate ids or missing fields, and
    end in a KeyError when the qrels name an unknown query. ``notes`` says what was dropped on the way.
    """
    from beir.datasets.data_loader import GenericDataLoader  # slow to import

    class CheckedLoader(GenericDataLoader):  # type: ignore[misc]  # beir is not typed
        def __init__(self) -> None:
            super().__init__(data_folder=str(folder))
            self.notes: list[str] = []
            self.documents = Corpus((), (), ())
            self.queries: dict[str, str] = {}
            self.qrels: dict[str, dict[str, int]] = {}

        def load(self, split: str = "test") -> Any:
            """As beir's, but a packed file is there, too; what is missing, the readers say."""
            self.qrels_file = str(qrels_file(folder, cast(Split, split)))
            if not self.corpus:
                self._load_corpus()
            self._load_queries()
            self._load_qrels()
            self.queries = {query_id: self.queries[query_id] for query_id in self.qrels}
            return self.corpus, self.queries, self.qrels

        def _load_corpus(self) -> None:
            self.documents = read_corpus(plain_or_gz(Path(self.corpus_file)))
            self.corpus = self.documents.position

        def _load_queries(self) -> None:
            file = _queries_file(folder)
            if file.name.startswith("topics"):
                self.queries = read_topics(file)
            else:
                self.queries = {i: record["text"] for i, record in read_records(file).items()}

        def _load_qrels(self) -> None:
            path = Path(self.qrels_file)
            known, note = keep_known(read_qrels(path), self.queries, self.corpus)
            if not known:
                raise DataError(f"{path}: {note}; nothing is left. Do these qrels belong to this corpus?")
            if note:
                self.notes.append(f"{path.stem}: {note}")
            self.qrels = {query_id: known[query_id] for query_id in self.queries if query_id in known}

    return CheckedLoader()


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read query id -> document id -> grade, in file order.

    Raises ``DataError`` that names file and line: a wrong header, not three columns, a grade that is not an integer,
    two grades for one pair; and if there are no judgments.
    """
    qrels: dict[str, dict[str, int]] = {}
    headed = False
    for number, line in numbered_lines(path):
        place = at(path, number)
        row = _columns(line, place)
        if not headed and len(line.split()) == 4:  # TREC's columns have no header
            return _read_trec(path)
        if not headed:
            if tuple(name.strip().lower().replace("_", "-") for name in row) != HEADER:
                raise DataError(f"{place}: the header must be {'<tab>'.join(HEADER)}, not {line[:60]!r}")
            headed = True
            continue
        if len(row) != len(HEADER):
            raise DataError(f"{place}: {len(HEADER)} columns separated by tabs are expected, found {len(row)}")
        query_id = checked_id(row[0].strip(), "query-id", place)
        document_id = checked_id(row[1].strip(), "corpus-id", place)
        add_judgment(qrels, query_id, document_id, row[2].strip(), place)
    if not qrels:
        raise DataError(f"{path}: holds no judgments; fill it, or remove it if this split does not exist")
    return qrels


def _read_trec(path: Path) -> dict[str, dict[str, int]]:
    from searchrl.data.trec import read_trec_qrels  # which enters judgments as this file does

    return read_trec_qrels(path)


def add_judgment(qrels: dict[str, dict[str, int]], query_id: str, document_id: str, grade: str, place: str) -> None:
    """Enter one judgment as it was read. Raises ``DataError`` if it is not an integer or contradicts an earlier one."""
    if not _INTEGER.fullmatch(grade):
        raise DataError(f"{place}: the grade {grade!r} is not an integer")
    if (before := qrels.setdefault(query_id, {}).setdefault(document_id, int(grade))) != int(grade):
        raise DataError(f"{place}: query {query_id!r}, document {document_id!r} is judged {grade}, before {before}")


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Write judgments atomically, so that ``read_qrels`` gives them back."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows((q, d, grade) for q, judged in qrels.items() for d, grade in judged.items())
    write_text(path, buffer.getvalue())


def keep_known(
    qrels: Qrels, queries: Container[str], documents: Container[str]
) -> tuple[dict[str, dict[str, int]], str]:
    """The judgments that name queries and documents that are there; what was dropped in words, "" where nothing was."""
    known: dict[str, dict[str, int]] = {}
    unknown_query = unknown_document = queries_lost = 0
    for query_id, judged in qrels.items():
        if query_id not in queries:
            unknown_query += len(judged)
            continue
        kept = {d: grade for d, grade in judged.items() if d in documents}
        unknown_document += len(judged) - len(kept)
        if kept:
            known[query_id] = kept
        else:
            queries_lost += 1
    counts = {"queries that do not exist": unknown_query, "documents that are not in the corpus": unknown_document}
    dropped = " and ".join(f"{n} name {what}" for what, n in counts.items() if n)
    lost = f", and with them {queries_lost} queries that have no other" if queries_lost else ""
    total = sum(map(len, qrels.values()))
    return known, f"of {total} judgments {dropped}: dropped{lost}" if dropped else ""


def _columns(line: str, place: str) -> list[str]:
    """Split one line as beir does, quotes included; a quote left open stays this line's own fault."""
    try:
        return next(csv.reader([line], delimiter="\t"))
    except csv.Error as error:
        raise DataError(f"{place}: not tab-separated text ({error})") from error
