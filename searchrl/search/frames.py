"""Data frames (pandas) in and out of a search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from searchrl.errors import DataError, nearest
from searchrl.search.results import SearchResult

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]


@dataclass(frozen=True)
class Column:
    """Texts of a frame, with the ids of their rows."""

    texts: list[str]
    ids: list[Any]


def text_column(frame: pd.DataFrame, column: str, id_column: str) -> Column:
    """The texts of a column; their ids are ``id_column`` where the frame has it, else the index.

    Raises DataError where the column is missing, or a row has no text.
    """
    texts = column_of(frame, column).tolist()
    for label, text in zip(frame.index, texts, strict=True):
        if not isinstance(text, str):
            raise DataError(f"column {column!r}, row {label!r}: {text!r} is not a text; drop the row or convert it")
    return Column(texts, (frame[id_column] if id_column in frame.columns else frame.index).tolist())


def result_frame(
    results: Sequence[SearchResult], queries: Column, keys: Column, groups: pd.Series | None = None
) -> pd.DataFrame:
    """A row a found key, queries in their order, keys best first.

    Columns: query_id, query, rank (from 1), key_id, key, relevance, and the keys' groups under their own name, if they
    are given; ids are the frames' own.
    """
    import pandas as pd

    found = [
        (result["query_id"], rank, key["key_id"], key["relevance"])
        for result in results
        for rank, key in enumerate(result["keys"], start=1)
    ]
    query, key = [row[0] for row in found], [row[2] for row in found]
    columns = {
        "query_id": [queries.ids[i] for i in query],
        "query": [queries.texts[i] for i in query],
        "rank": [row[1] for row in found],
        "key_id": [keys.ids[i] for i in key],
        "key": [keys.texts[i] for i in key],
        "relevance": [row[3] for row in found],
    }
    if groups is not None:
        columns[str(groups.name)] = groups.iloc[key].tolist()
    return pd.DataFrame(columns)


def best_of_groups(results: Sequence[SearchResult], groups: pd.Series, k: int | None) -> list[SearchResult]:
    """Leave the first k keys of each group (None: all) in every result. groups: (keys,), missing values are a group."""
    import pandas as pd

    group_of = pd.factorize(groups)[0]
    kept: list[SearchResult] = []
    for result in results:
        seen: Counter[int] = Counter()
        keys = []
        for key in result["keys"]:
            group = int(group_of[key["key_id"]])
            seen[group] += 1
            if k is None or seen[group] <= k:
                keys.append(key)
        kept.append({**result, "keys": keys})
    return kept


def column_of(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column by its name. Raises DataError with the nearest there is."""
    if name not in frame.columns:
        raise DataError(f"the frame has no column {name!r}: {nearest(name, map(str, frame.columns))}")
    return frame[name]
