"""Datasets of the Hugging Face hub in BEIR layout, and folders of parquet files in that layout.

Configurations ``corpus``, ``queries`` (or ``query``) and, with the judgments, ``default`` or ``qrels``; columns ``_id``
or ``id``, ``title``, ``text``; ``query-id``, ``corpus-id``, ``score``. ``BeIR/NAME`` keeps its judgments in
``BeIR/NAME-qrels``. A multilingual one is read by subset: its configurations are ``SUBSET-corpus`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from searchrl.data.dataset import Dataset
from searchrl.data.records import plain_or_gz
from searchrl.data.tables import assemble, splits_of
from searchrl.errors import DataError, DownloadError, SearchRLError, reason
from searchrl.extras import needs

Rows = Iterator[dict[str, Any]]
Table = Callable[[], "dict[str, Any]"]
"""Split -> rows."""


def is_parquet_folder(folder: Path) -> bool:
    """Whether a folder has its documents in parquet files, and none as BEIR writes them."""
    return (
        folder.is_dir()
        and not plain_or_gz(folder / "corpus.jsonl").exists()
        and any(next(folder.glob(pattern), None) for pattern in ("*.parquet", "*/*.parquet"))
    )


def read_parquet_folder(folder: Path) -> Dataset:
    """Read a folder laid out as a hub dataset (README.md names its configurations), or by its files' names:
    ``corpus.parquet``, ``queries.parquet`` and ``qrels/SPLIT.parquet``, or folders ``corpus/``, ``queries/``.
    """
    if (folder / "README.md").is_file():
        return _read(str(folder), folder.resolve().name, str(folder), "")
    tables = {kind: _files(folder, kind) for kind in ("corpus", "queries", "qrels")}
    if missing := [kind for kind, files in tables.items() if not files]:
        raise DataError(f"{folder}: no parquet files of its {' and '.join(missing)}")
    load = {kind: partial(_load, str(folder), "parquet", data_files=files) for kind, files in tables.items()}
    return _assemble(folder.resolve().name, str(folder), load["corpus"], load["queries"], load["qrels"])


def read_hub(name: str) -> Dataset:
    """Read ``OWNER/NAME``, or ``OWNER/NAME:SUBSET``, from the hub or its local cache.

    Raises ``DownloadError`` where it cannot be had, ``DataError`` where it is not in BEIR layout.
    """
    repository, _, subset = name.partition(":")
    return _read(repository, name.rpartition("/")[2].replace(":", "-"), f"hf:{name}", subset)


def _read(repository: str, name: str, place: str, subset: str) -> Dataset:
    with needs("hub"):
        from datasets import get_dataset_config_names

    configs = _tried(place, lambda: get_dataset_config_names(repository))
    before = f"{subset}-" if subset else ""
    corpus = _config(place, configs, [f"{before}corpus"])
    queries = _config(place, configs, [f"{before}query", f"{before}queries"])
    judged = [f"{before}qrels"] if subset else ["default", "qrels"]
    if not any(one in configs for one in judged) and place.startswith("hf:"):
        qrels = partial(_load, place, f"{repository}-qrels")
    else:
        qrels = partial(_load, place, repository, _config(place, configs, judged))
    return _assemble(
        name, place, partial(_load, place, repository, corpus), partial(_load, place, repository, queries), qrels
    )


def _config(place: str, configs: Sequence[str], wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in configs:
            return name
    raise DataError(f"{place}: not in BEIR layout: no configuration {' or '.join(wanted)}; it has {', '.join(configs)}")


def _assemble(name: str, place: str, corpus: Table, queries: Table, qrels: Table) -> Dataset:
    judged = qrels()
    splits = splits_of(judged)
    return assemble(
        name,
        place,
        ((_key(row, place), row.get("title"), row.get("text")) for row in _all(corpus())),
        ((_key(row, place), row.get("text")) for row in _all(queries())),
        {split: _judgments(judged[theirs], place) for split, theirs in splits.items()},
    )


def _judgments(rows: Rows, place: str) -> Iterator[tuple[Any, Any, Any]]:
    for row in rows:
        try:
            yield row["query-id"], row["corpus-id"], row["score"]
        except KeyError as error:
            raise DataError(f"{place}: its judgments have no column {error}; found {', '.join(row)}") from error


def _key(row: dict[str, Any], place: str) -> Any:
    for name in ("_id", "id"):
        if name in row:
            return row[name]
    raise DataError(f"{place}: no column _id or id; found {', '.join(row)}")


def _all(table: dict[str, Any]) -> Rows:
    """The rows of every split, each id once."""
    seen = set()
    for rows in table.values():
        for row in rows:
            key = row.get("_id", row.get("id"))
            if len(table) == 1 or key not in seen:
                seen.add(key)
                yield row


def _files(folder: Path, kind: str) -> dict[str, list[str]]:
    """Split -> its parquet files, told from their names (``test-00000-of-00001.parquet``)."""
    found: dict[str, list[str]] = {}
    for file in sorted([*folder.glob(f"{kind}.parquet"), *folder.glob(f"{kind}/*.parquet")]):
        found.setdefault(file.stem.partition("-")[0], []).append(str(file))
    return found


def _load(place: str, *what: str, **options: Any) -> dict[str, Any]:
    with needs("hub"):
        from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    return dict(_tried(place, lambda: load_dataset(*what, **options)))


def _tried(place: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except SearchRLError:
        raise
    except Exception as error:  # what datasets, pyarrow and HTTP raise has no common base
        raise DownloadError(
            f"{place}: cannot be read ({reason(error):.200}). Offline: name a folder in the BEIR layout as dataset, "
            "or use pydocs, which needs no download"
        ) from error
