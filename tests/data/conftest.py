"""Builds small dataset folders, sound or with a chosen fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

CORPUS = [
    {"_id": "d1", "title": "Whales", "text": "Whales are mammals."},
    {"_id": "d2", "text": "Sharks are fish."},
    {"_id": "d3", "title": "", "text": ""},
]
QUERIES = [{"_id": f"q{i}", "text": f"question {i}"} for i in range(1, 5)]
QRELS = {"train": [("q2", "d1", 2), ("q1", "d2", 1), ("q1", "d1", 0)], "test": [("q3", "d1", 1)]}

FolderMaker = Callable[..., Path]


def as_jsonl(records: list[dict[str, object]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def as_tsv(rows: list[tuple[str, str, int]]) -> str:
    return "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{grade}\n" for q, d, grade in rows)


@pytest.fixture
def make_folder(tmp_path: Path) -> FolderMaker:
    """``make_folder()`` is sound; keyword arguments replace a file by text or bytes, or leave it out (None)."""

    def make(name: str = "zoo", **files: str | bytes | None) -> Path:
        folder = tmp_path / name
        (folder / "qrels").mkdir(parents=True)
        contents: dict[str, str | bytes | None] = {"corpus": as_jsonl(CORPUS), "queries": as_jsonl(QUERIES)}
        contents |= {split: as_tsv(rows) for split, rows in QRELS.items()} | files
        for key, content in contents.items():
            path = folder / (f"{key}.jsonl" if key in ("corpus", "queries") else f"qrels/{key}.tsv")
            if content is not None:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    return make
