"""Documents as people have them: tables with gaps, folders with hidden files, packed files."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pandas as pd
import pytest

from searchrl.errors import DataError
from searchrl.fitting.documents import read_source
from searchrl.fitting.settings import ProcessDataConfig


def read(path: Path, **settings: str) -> list[tuple[str, str, str]]:
    return list(read_source(ProcessDataConfig(dataset_name=str(path), output_dir=Path("unused"), **settings)))  # type: ignore[arg-type]


def test_gaps_in_a_table_are_gaps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = pd.DataFrame(
        {
            "id": [1, 2, 3, None],
            "title": ["Tea", None, "Salt", "Silk"],
            "text": ["Green tea.", "Coal burns.", None, "Silk is spun."],
        }
    )
    table.to_parquet(tmp_path / "table.parquet")
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path / "table.parquet") == [("1", "Tea", "Green tea."), ("2", "", "Coal burns.")]
    assert "2 rows are left out: 1 without text, 1 without id" in caplog.text


def test_ids_are_taken_as_they_are_written(tmp_path: Path) -> None:
    pd.DataFrame({"_id": pd.array([7, None], dtype="Int64"), "text": ["a", "b"]}).to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet") == [("7", "", "a")]
    (tmp_path / "t.jsonl").write_text('{"id": 12, "text": "a", "title": NaN}\n{"id": "007", "text": NaN}\n')
    assert read(tmp_path / "t.jsonl") == [("12", "", "a")]
    (tmp_path / "t.csv").write_text("id,text\n007,a\n1.50,nan\n")
    assert read(tmp_path / "t.csv") == [("007", "", "a"), ("1.50", "", "nan")]


def test_a_cell_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps([{"id": "1", "text": ["a", "b"]}]))
    with pytest.raises(DataError, match=r"row 1: 'text' is not a text but \['a', 'b'\]"):
        read(tmp_path / "t.json")


def test_hidden_files_and_folders_that_look_like_files_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tea.md").write_text("Tea grows.")
    (tmp_path / "._tea.md").write_bytes(b"\x00\x05\x16\x07\xff")
    (tmp_path / "notes.md").mkdir()
    (tmp_path / "notes.md" / "inner.txt").write_text("Inner.")
    for folder in (".git", ".ipynb_checkpoints", "__MACOSX"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_bytes(b"\xff")
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path) == [("notes.md/inner.txt", "", "Inner."), ("tea.md", "", "Tea grows.")]
    assert "5 hidden files, or folders named like files, are left out" in caplog.text
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"bad\.txt: not UTF-8 text .*; convert it, or move it out of the folder"):
        read(tmp_path)


def test_packed_files_are_unpacked(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "a", "text": "Tea."}\n'))
    assert read(tmp_path) == [("a", "", "Tea.")]
