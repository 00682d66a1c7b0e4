"""Files packed by gzip are read like others: collections as the hub has them, runs, JSON."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from searchrl.data.beir import read_beir_folder, write_beir_folder
from searchrl.data.dataset import Corpus, Dataset, QuerySet
from searchrl.data.load import load_dataset
from searchrl.data.records import read_json, read_jsonl
from searchrl.data.trec import read_trec_run
from searchrl.errors import DataError
from searchrl.evaluation.runs import read_judgments, run_paths


def packed(path: Path) -> Path:
    target = path.with_name(path.name + ".gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return target


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    queries = QuerySet(["q"], ["tea?"], {"q": {"a": 1}})
    write_beir_folder(Dataset("d", Corpus(["a"], [""], ["Tea."]), {"test": queries}), tmp_path / "d")
    return tmp_path / "d"


def test_a_packed_collection(collection: Path) -> None:
    plain = read_beir_folder(collection)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        packed(collection / name)
    assert read_beir_folder(collection) == plain
    assert load_dataset("d", data_dir=collection.parent).corpus == plain.corpus
    assert read_judgments(collection)[1] == {"q": {"a": 1}}


def test_packed_runs_and_records(tmp_path: Path) -> None:
    (tmp_path / "a.run").write_text("q Q0 a 1 1.0 tag\n")
    (run,) = run_paths(packed(tmp_path / "a.run").parent)
    assert read_trec_run(run).rankings == {"q": [("a", 1.0)]}
    (tmp_path / "l.jsonl").write_text('{"a": 1}\n')
    assert list(read_jsonl(packed(tmp_path / "l.jsonl"))) == [(1, {"a": 1})]
    (tmp_path / "x.json").write_text("[1]")
    assert read_json(packed(tmp_path / "x.json")) == [1]


@pytest.mark.parametrize(
    "bad", [gzip.compress(b"{}" * 99, mtime=0)[:-9], gzip.compress(b"{}", mtime=0)[:6] + b"\xff" * 20, b"\x1f\x8b"]
)
def test_damage_to_a_packed_file_is_one_error(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(bad)
    for read in (read_json, lambda path: list(read_jsonl(path)), read_trec_run):
        with pytest.raises(DataError, match="cannot be read"):
            read(path)
