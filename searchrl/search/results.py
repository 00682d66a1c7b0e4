"""What a search takes and gives back: lists of texts, results and the files they are written to, data frames."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from searchrl.errors import ConfigError, DataError, nearest
from searchrl.files import write_text
from searchrl.models.language_model import FloatArray
from searchrl.retrieval.ranking import IntArray

if TYPE_CHECKING:
    from typing import NotRequired

    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]

COLUMNS = ("query_id", "query", "rank", "key_id", "key", "relevance")


class FoundKey(TypedDict):
    """One key of a ranking: its position among the keys, its text, and its relevance where that was asked for."""

    key_id: int
    key: str
    relevance: NotRequired[float]


class SearchResult(TypedDict):
    """A query with its keys, best first; ``query_id`` is its position among the queries."""

    query: str
    query_id: int
    keys: list[FoundKey]


def text_list(name: str, texts: Iterable[str]) -> list[str]:
    """The texts as a list. Raises DataError where ``texts`` is a single text, or holds something else than texts."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise DataError(f"{name} must be a list of texts, not {texts!r:.60}; put one text into a list")
    listed = list(texts)
    for i, text in enumerate(listed):
        if not isinstance(text, str):
            raise DataError(f"{name}[{i}] is not a text: {text!r:.60}")
    return listed


def ranked(
    query_id: int,
    query: str,
    keys: Sequence[str],
    key_ids: IntArray,
    scores: FloatArray,
    k: int | None,
    relevance: bool,
) -> SearchResult:
    """The k keys (None: all) of the highest score, equal ones by the lower id.

    key_ids, scores: (m,) what was scored.
    """
    best = np.lexsort((key_ids, -scores))[:k]
    found: list[FoundKey] = [{"key_id": int(i), "key": keys[i]} for i in key_ids[best]]
    if relevance:
        for entry, score in zip(found, scores[best].tolist(), strict=True):
            entry["relevance"] = score
    return {"query": query, "query_id": query_id, "keys": found}


def check_groups(groups: pd.Series) -> pd.Series:
    """Raise DataError where a column's cells cannot be told apart as groups."""
    import pandas as pd

    try:
        pd.factorize(groups)
    except (TypeError, ValueError) as error:  # lists, say
        raise DataError(f"column {groups.name!r}: its cells cannot be groups ({error})") from error
    return groups


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


def write_results(path: Path, results: Sequence[SearchResult]) -> None:
    """Write results whole or not at all: ``.json`` one list, ``.jsonl`` a line a query, ``.csv`` a row a key.

    Raises ConfigError on another ending, OutputError where the file cannot be written.
    """
    if path.suffix == ".json":
        text = _json(results, indent=1)
    elif path.suffix == ".jsonl":
        text = "".join(_json(result) for result in results)
    elif path.suffix == ".csv":
        table = io.StringIO()
        writer = csv.DictWriter(table, COLUMNS)
        writer.writeheader()
        for result in results:
            asked = {"query_id": result["query_id"], "query": result["query"]}
            writer.writerows({**asked, **found, "rank": i} for i, found in enumerate(result["keys"], start=1))
        text = table.getvalue().encode("utf-8", "replace").decode("utf-8")
    else:
        raise ConfigError(f"{path}: results are written as .json, .jsonl or .csv; choose one of these endings")
    write_text(path, text)


def _json(value: object, indent: int | None = None) -> str:
    """One line, or indented; letters as they are, except in texts with lone surrogates, which no file can hold."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent)
    return f"{text}\n"


def text_column(frame: pd.DataFrame, column: str, id_column: str) -> pd.Series:
    """The texts of a column, indexed by ``id_column`` where the frame has it, else as they are.

    Raises DataError where the column is missing, or a row has no text.
    """
    texts = column_of(frame, column)
    for label, text in texts.items():
        if not isinstance(text, str):
            raise DataError(f"column {column!r}, row {label!r}: {text!r} is not a text; drop the row or convert it")
    return texts.set_axis(column_of(frame, id_column)) if id_column in frame.columns else texts


def column_of(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column by its name. Raises DataError with the nearest there is, or where it is no data frame at all."""
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"a data frame with a column {name!r} is expected, not {frame!r:.60}")
    try:
        found = frame[name] if name in frame.columns else None
    except (TypeError, ValueError, KeyError):  # a name of a type that none can have
        found = None
    if found is None:
        raise DataError(f"the frame has no column {name!r}: {nearest(str(name), map(str, frame.columns))}")
    if not isinstance(found, pd.Series):
        raise DataError(f"the frame has several columns {name!r}: rename all but one")
    return found


def result_frame(
    results: Sequence[SearchResult], queries: pd.Series, keys: pd.Series, groups: pd.Series | None = None
) -> pd.DataFrame:
    """A row a found key, queries in their order, keys best first.

    Columns: query_id, query, rank (from 1), key_id, key, relevance, and the keys' groups under their own name, if they
    are given. queries, keys: texts by their ids.
    """
    import pandas as pd

    asked = [result["query_id"] for result in results for _ in result["keys"]]
    found = [key for result in results for key in result["keys"]]
    places = [key["key_id"] for key in found]
    columns: dict[str, Any] = {
        "query_id": queries.index[asked].tolist(),
        "query": queries.iloc[asked].tolist(),
        "rank": [rank for result in results for rank in range(1, len(result["keys"]) + 1)],
        "key_id": keys.index[places].tolist(),
        "key": keys.iloc[places].tolist(),
        "relevance": [key["relevance"] for key in found],
    }
    if groups is not None:
        columns[str(groups.name)] = groups.iloc[places].tolist()
    return pd.DataFrame(columns)
