"""Datasets that ir_datasets knows, by their ids: ``cranfield``, ``beir/scifact``, ``msmarco-passage/trec-dl-2019``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from searchrl.data.dataset import Dataset, Split
from searchrl.data.tables import ALIASES, assemble
from searchrl.errors import ConfigError, DataError, DownloadError, SearchRLError, reason
from searchrl.extras import needs

T = TypeVar("T")


def read_irds(name: str) -> Dataset:
    """Read the dataset ``name``: its documents, and the queries and judgments of ``name/train``, ``name/test`` and so
    on, or, where there are none, its own as the split that the id ends in, else as ``test``.

    Raises ``ConfigError`` for an unknown id, ``DataError`` for one without judgments, ``DownloadError`` where its files
    cannot be had.
    """
    with needs("irds"):
        import ir_datasets

    try:
        root = ir_datasets.load(name)
    except KeyError as error:
        raise ConfigError(f"irds:{name}: ir_datasets has no such id; see https://ir-datasets.com") from error
    found: dict[Split, Any] = {}
    for alias, split in ALIASES.items():
        try:
            part = ir_datasets.load(f"{name}/{alias}")
        except KeyError:
            continue
        if part.has_queries() and part.has_qrels():
            found.setdefault(split, part)
    if not found and root.has_queries() and root.has_qrels():
        found[ALIASES.get(name.rpartition("/")[2], "test")] = root
    if not found or not root.has_docs():
        raise DataError(f"irds:{name}: has no {'judged queries' if root.has_docs() else 'documents'}")
    return _tried(name, lambda: _read(name, root, found))


def _read(name: str, root: Any, parts: dict[Split, Any]) -> Dataset:
    asked = {query.query_id: query.default_text() for part in parts.values() for query in part.queries_iter()}
    return assemble(
        name.replace("/", "-"),
        f"irds:{name}",
        map(_document, root.docs_iter()),
        asked.items(),
        {
            split: ((one.query_id, one.doc_id, one.relevance) for one in part.qrels_iter())
            for split, part in parts.items()
        },
    )


def _document(document: Any) -> tuple[str, str, str]:
    title, text = getattr(document, "title", None), getattr(document, "text", None)
    if isinstance(title, str) and isinstance(text, str):
        return document.doc_id, title, text
    return document.doc_id, "", document.default_text()


def _tried(name: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except SearchRLError:
        raise
    except Exception as error:  # downloads fail in many ways
        raise DownloadError(f"irds:{name}: cannot be read ({reason(error):.200})") from error
