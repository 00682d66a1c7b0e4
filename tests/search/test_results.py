from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.errors import ConfigError, OutputError
from searchrl.search.results import SearchResult, ranked, write_results

RESULTS: list[SearchResult] = [
    {"query": "rain, or\nsnow", "query_id": 0, "keys": [{"key_id": 3, "key": "clöuds", "relevance": 0.5}]},
    {"query": "cheese", "query_id": 1, "keys": []},
]


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, -1.0]), max_size=12), st.integers(1, 15) | st.none())
def test_the_best_come_first_and_equal_ones_by_their_id(scores: list[float], k: int | None) -> None:
    keys = [f"key {i}" for i in range(len(scores))]
    result = ranked(7, "q", keys, np.arange(len(keys), dtype=np.int32), np.array(scores, np.float32), k, True)
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    assert result == {
        "query": "q",
        "query_id": 7,
        "keys": [{"key_id": i, "key": keys[i], "relevance": scores[i]} for i in expected],
    }


def test_relevance_is_there_only_where_asked_for() -> None:
    ids = np.array([2, 0], dtype=np.int32)
    result = ranked(0, "q", ["a", "b", "c"], ids, np.array([0.1, 0.2], np.float32), 1, False)
    assert result["keys"] == [{"key_id": 0, "key": "a"}]


def test_files_of_each_kind_say_the_same(tmp_path: Path) -> None:
    write_results(tmp_path / "r.json", RESULTS)
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == RESULTS
    write_results(tmp_path / "r.jsonl", RESULTS)
    lines = (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == RESULTS
    write_results(tmp_path / "r.csv", RESULTS)
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"query_id": "0", "query": "rain, or\nsnow", "rank": "1", "key_id": "3", "key": "clöuds", "relevance": "0.5"}
    ]


def test_what_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"r\.xlsx: results are written as \.json, \.jsonl or \.csv"):
        write_results(tmp_path / "r.xlsx", RESULTS)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_results(tmp_path / "file" / "r.json", RESULTS)


def test_texts_no_encoding_has_are_written(tmp_path: Path) -> None:
    write_results(tmp_path / "r.json", [{"query": "\ud800", "query_id": 0, "keys": []}])
    assert json.loads((tmp_path / "r.json").read_text())[0]["query"] == "\ud800"
