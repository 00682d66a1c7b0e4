"""Retrieval tasks of MTEB by name, as the package ``mteb`` loads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from searchrl.data.dataset import Dataset
from searchrl.data.tables import assemble, splits_of
from searchrl.errors import ConfigError, DataError, DownloadError, reason
from searchrl.extras import needs


def read_mteb(name: str) -> Dataset:
    """Read ``TASK``, or ``TASK:SUBSET`` where a task has several.

    Raises ``ConfigError`` where there is none of that name, ``DataError`` where it is not about retrieval,
    ``DownloadError`` where its data cannot be had.
    """
    with needs("mteb"):
        import mteb

    task_name, _, subset = name.partition(":")
    try:
        task = mteb.get_task(task_name)
    except KeyError as error:
        raise ConfigError(f"mteb:{task_name}: mteb has no task of that name ({reason(error):.200})") from error
    try:
        task.load_data()
    except Exception as error:  # hub, network and disk fail in many ways
        raise DownloadError(f"mteb:{task_name}: cannot be loaded ({reason(error):.200})") from error
    return dataset_of(task, subset)


def dataset_of(task: Any, subset: str = "") -> Dataset:
    """A loaded task as a dataset."""
    name = str(task.metadata.name)
    place = f"mteb:{name}"
    subsets = dict(task.dataset)
    if not subset and len(subsets) == 1:
        subset = next(iter(subsets))
    if (subset or "default") not in subsets:
        raise ConfigError(
            f"{place}: name one of its subsets, as in {place}:{next(iter(subsets))}; {', '.join(subsets)}"
        )
    parts = subsets[subset or "default"]
    splits = splits_of(parts)
    if not all("relevant_docs" in parts[theirs] for theirs in splits.values()):
        raise DataError(f"{place}: not a retrieval task")
    chosen = [parts[theirs] for theirs in splits.values()]
    documents = {row["id"]: (row["id"], row.get("title"), row["text"]) for part in chosen for row in part["corpus"]}
    return assemble(
        name if subset in ("", "default") else f"{name}-{subset}",
        place,
        documents.values(),
        ((row["id"], row["text"]) for part in chosen for row in part["queries"]),
        {split: _judged(parts[theirs]["relevant_docs"]) for split, theirs in splits.items()},
    )


def _judged(relevant: Any) -> Iterator[tuple[Any, Any, Any]]:
    return ((query, doc, grade) for query, judged in relevant.items() for doc, grade in judged.items())
