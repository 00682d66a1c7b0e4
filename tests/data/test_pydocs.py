from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from searchrl.data.dataset import SPLITS
from searchrl.data.pydocs import queries as pydocs_queries
from searchrl.data.pydocs.queries import load_pydocs


def test_every_split_has_queries_with_an_answer_in_the_corpus():
    dataset = load_pydocs()
    assert dataset.name == "pydocs"
    assert list(dataset.splits) == list(SPLITS)
    for queries in dataset.splits.values():
        assert len(queries) >= 1
        assert set(queries.qrels) == set(queries.ids)
        assert all(text.strip() for text in queries.texts)
        for judged in queries.qrels.values():
            assert set(judged.values()) <= {0, 1, 2}
            assert max(judged.values()) >= 1
            assert all(document in dataset.corpus.position for document in judged)


def test_no_query_is_in_two_splits():
    splits = load_pydocs().splits.values()
    for form in ("ids", "texts"):
        everything = [value for queries in splits for value in getattr(queries, form)]
        assert len(everything) == len(set(everything))


def test_the_same_every_time():
    assert load_pydocs() == load_pydocs()


@pytest.fixture
def altered(tmp_path: Path, monkeypatch):
    """The shipped questions, with three more on train for which this Python has less than they were judged with."""
    shutil.copytree(Path(pydocs_queries.__file__).parent / "qrels", tmp_path / "qrels")
    shutil.copy(Path(pydocs_queries.__file__).with_name("queries.jsonl"), tmp_path)
    with open(tmp_path / "queries.jsonl", "a", encoding="utf-8") as file:
        file.writelines(f'{{"_id": "extra{i}", "text": "extra question {i}"}}\n' for i in range(3))
    with open(tmp_path / "qrels" / "train.tsv", "a", encoding="utf-8") as file:
        file.write("extra0\tno.such.module\t2\nextra1\tno.such.module\t2\nextra1\tabs\t0\nextra2\tabs\t1\n")
        file.write("extra2\tno.such.module\t2\n")
    monkeypatch.setattr(pydocs_queries, "_FOLDER", tmp_path)


def test_what_this_python_lacks_is_dropped_and_counted(altered):
    dataset = load_pydocs()
    train = dataset.splits["train"]
    assert [i for i in train.ids if i.startswith("extra")] == ["extra2"]
    assert train.qrels["extra2"] == {"abs": 1}
    notes = [note for note in dataset.notes if note.startswith("train")]
    assert "name documents that are not in the corpus" in notes[0]
    assert "no relevant document" in notes[1]
