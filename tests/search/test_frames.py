from __future__ import annotations

import asyncio
from typing import Any

import pandas as pd
import pytest

from searchrl import Search
from searchrl.errors import DataError
from tests.small_models import OverlapReward

QUERIES = pd.DataFrame({"query": ["rain", "cheese milk"]}, index=["q1", "q2"])
KEYS = pd.DataFrame(
    {
        "key": ["rain falls", "cheese", "milk and cheese", "bread", "rain"],
        "key_id": [10, 11, 12, 13, 14],
        "kind": ["long", "short", "long", "short", None],
    }
)


def by_df(queries: pd.DataFrame = QUERIES, keys: pd.DataFrame = KEYS, **options: Any) -> pd.DataFrame:
    async def run() -> pd.DataFrame:
        async with Search(scorer=OverlapReward(), cache=False, show_progress=False) as search:
            return await search.search_by_df(queries, keys, **options)

    return asyncio.run(run())


def test_a_row_a_found_key_with_the_frames_own_ids() -> None:
    found = by_df(k=2)
    expected = pd.DataFrame(
        {
            "query_id": ["q1", "q1", "q2", "q2"],
            "query": ["rain", "rain", "cheese milk", "cheese milk"],
            "rank": [1, 2, 1, 2],
            "key_id": [10, 14, 12, 11],
            "key": ["rain falls", "rain", "milk and cheese", "cheese"],
            "relevance": [1.0, 1.0, 1.0, 0.5],
        }
    )
    pd.testing.assert_frame_equal(found, expected)


def test_other_columns_may_hold_the_texts() -> None:
    queries = QUERIES.rename(columns={"query": "question"}).assign(query_id=[7, 8])
    found = by_df(queries, KEYS.rename(columns={"key": "text"}), query_column="question", key_column="text", k=1)
    assert found["query_id"].tolist() == [7, 8]
    assert found["key"].tolist() == ["rain falls", "milk and cheese"]


def test_each_group_gives_its_best() -> None:
    found = by_df(k=1, group="kind")
    assert found.groupby("query_id").size().tolist() == [3, 3]
    first = found[found["query_id"] == "q1"]
    assert first["key_id"].tolist() == [10, 14, 11]
    assert first["kind"].fillna("none").tolist() == ["long", "none", "short"]
    assert first["rank"].tolist() == [1, 2, 3]
    assert found[found["query_id"] == "q2"]["key_id"].tolist() == [12, 11, 14]


def test_no_queries_or_keys_give_an_empty_frame_of_the_same_columns() -> None:
    for found in (by_df(QUERIES[:0]), by_df(keys=KEYS[:0])):
        assert found.columns.tolist() == ["query_id", "query", "rank", "key_id", "key", "relevance"]
        assert len(found) == 0


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match="the frame has no column 'qury': did you mean 'query'"):
        by_df(query_column="qury")
    with pytest.raises(DataError, match="no column 'sort'"):
        by_df(group="sort")
    with pytest.raises(DataError, match=r"column 'key', row 1: nan is not a text"):
        by_df(keys=pd.DataFrame({"key": pd.Series(["a", float("nan")], dtype=object)}))
