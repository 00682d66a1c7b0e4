"""A corpus whose texts stay in its file is the one that is in memory, and says so where the file changes."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from searchrl.data import beir
from searchrl.data.beir import read_beir_folder, write_beir_folder
from searchrl.data.dataset import Corpus, Dataset
from searchrl.data.on_disk import BLOCK
from searchrl.data.own_document import own_ids
from searchrl.errors import DataError
from tests.data.conftest import FolderMaker
from tests.tiny import corpus_of, retriever_of

SEVERAL_BLOCKS = 2 * BLOCK + 7


def read_lazily(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    with monkeypatch.context() as patch:
        patch.setattr(beir, "IN_MEMORY", 0)
        return read_beir_folder(folder)


def assert_same(one: Corpus, other: Corpus) -> None:
    assert (list(one.ids), list(one.titles), list(one.texts)) == (
        list(other.ids),
        list(other.titles),
        list(other.texts),
    )
    assert list(one.full_texts()) == list(other.full_texts())
    assert one.full_texts()[2:5] == other.full_texts()[2:5]
    assert [one.full_text(i) for i in (0, len(one) - 1)] == [other.full_text(i) for i in (0, len(other) - 1)]
    assert (one.texts[1:3], one.titles[-1]) == (other.texts[1:3], other.titles[-1])
    assert one.fingerprint == other.fingerprint
    assert one.position == other.position


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\n \r\n\n"])
def test_everything_is_as_in_memory(make_folder: FolderMaker, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    lines = [
        f'{{"_id": "d{i}", "title": {["null", chr(34) * 2][i % 2]}, "text": "Ähre \U0001f33e {i}"}}' for i in range(3)
    ]
    lines += [f'{{"text": "\\u00e4 {i}", "_id": "d{i}", "title": " Über {i}"}}' for i in range(3, SEVERAL_BLOCKS)]
    folder = make_folder(corpus=b"\xef\xbb\xbf" + ends.join(lines).encode())
    memory, disk = read_beir_folder(folder), read_lazily(folder, monkeypatch)
    assert_same(memory.corpus, disk.corpus)
    assert memory.splits == disk.splits
    for queries in memory.splits.values():
        assert own_ids(queries, memory.corpus) == own_ids(queries, disk.corpus)


def test_rankings_are_the_same(small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_beir_folder(small_dataset, tmp_path / "small")
    disk = read_lazily(tmp_path / "small", monkeypatch)
    texts = small_dataset.splits["test"].texts
    for share in (0.0, 0.5, 1.0):
        one, other = (retriever_of(corpus, share=share) for corpus in (small_dataset.corpus, disk.corpus))
        expected, found = one.search(one.queries(texts)), other.search(other.queries(texts))
        np.testing.assert_array_equal(found.documents, expected.documents)
        np.testing.assert_array_equal(found.scores, expected.scores)


def test_a_file_that_changes_is_one_error(make_folder: FolderMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder()
    file, corpus = folder / "corpus.jsonl", read_lazily(folder, monkeypatch).corpus
    sound = file.read_bytes()
    file.write_bytes(sound.replace(b"Sharks", b"Shirks"))
    assert corpus.full_text(0) == "Whales Whales are mammals.", "lines that are as they were are read"
    with pytest.raises(DataError, match=r"corpus\.jsonl: the line of document 'd2' is not what it was.*start again"):
        corpus.full_text(1)
    with pytest.raises(DataError, match="document 'd2'"):
        list(corpus.full_texts())
    file.write_bytes(sound[:-5])
    with pytest.raises(DataError, match="document 'd3'"):
        _ = corpus.texts[2]
    file.unlink()
    with pytest.raises(DataError, match=r"corpus\.jsonl: cannot be read any more"):
        _ = corpus.texts[0]


def test_a_packed_file_is_read_into_memory(make_folder: FolderMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder()
    file = folder / "corpus.jsonl"
    expected = read_beir_folder(folder).corpus
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    corpus = read_lazily(folder, monkeypatch).corpus
    (folder / "corpus.jsonl.gz").unlink()
    assert_same(corpus, expected)


def test_places_count_as_in_a_list(make_folder: FolderMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = read_lazily(make_folder(), monkeypatch).corpus
    assert corpus.texts[-1] == ""
    assert corpus.titles[:] == ["Whales", "", ""]
    with pytest.raises(IndexError):
        _ = corpus.texts[3]
    assert len(corpus_of("a", "b").full_texts()) == 2
