"""Datasets as folders in the BEIR layout: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/{train,dev,test}.tsv``.

The layout is that of BEIR (Thakur et al. 2021, arXiv:2104.08663).
"""

from __future__ import annotations

import warnings
from pathlib import Path

from searchrl.data.dataset import SPLITS, Corpus, Dataset, QuerySet, Split
from searchrl.data.lines import write_jsonl
from searchrl.data.qrels import write_qrels
from searchrl.errors import DataError
from searchrl.files import new_folder


class DataWarning(UserWarning):
    """Something in a dataset was left out; the results stand for what is left."""


def read_beir_folder(path: Path, name: str | None = None) -> Dataset:
    """Read a dataset folder; its name is the folder's unless given. Splits without a qrels file are absent.

    A split's queries are those with judgments in its qrels file, in the order of ``queries.jsonl``. Judgments that
    name unknown queries or documents are dropped, with a ``DataWarning`` and a note on the dataset. Raises
    ``DataError`` naming file and line for everything else that is wrong.
    """
    from searchrl.data.beir_loader import CheckedLoader  # beir is slow to import

    present = _splits_present(path)
    loader = CheckedLoader(path)
    records = loader.load_corpus()
    corpus = Corpus(list(records), [r["title"] for r in records.values()], [r["text"] for r in records.values()])
    splits: dict[Split, QuerySet] = {}
    for split in present:
        queries, qrels = loader.load_split(split)
        splits[split] = QuerySet(list(queries), list(queries.values()), qrels)
    for note in loader.notes:
        warnings.warn(f"{path}: {note}", DataWarning, stacklevel=2)
    return Dataset(name or path.resolve().name, corpus, splits, tuple(loader.notes))


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
    documents = (
        {"_id": i, "title": title, "text": text}
        for i, title, text in zip(corpus.ids, corpus.titles, corpus.texts, strict=True)
    )
    with new_folder(path) as folder:
        write_jsonl(folder / "corpus.jsonl", documents)
        write_jsonl(folder / "queries.jsonl", ({"_id": i, "text": text} for i, text in texts.items()))
        for split, queries in dataset.splits.items():
            write_qrels(folder / "qrels" / f"{split}.tsv", {i: queries.qrels[i] for i in queries.ids})


def _splits_present(folder: Path) -> list[Split]:
    """Which splits have a qrels file; everything that is missing is said at once."""
    if not folder.is_dir():
        raise DataError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    splits = [split for split in SPLITS if (folder / "qrels" / f"{split}.tsv").is_file()]
    missing = [name for name in ("corpus.jsonl", "queries.jsonl") if not (folder / name).is_file()]
    if not splits:
        missing.append("any of qrels/train.tsv, qrels/dev.tsv, qrels/test.tsv")
    if missing:
        raise DataError(f"{folder}: not a dataset in the BEIR layout; missing: {'; '.join(missing)}")
    return splits
