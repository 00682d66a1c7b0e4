from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from searchrl.data import pydocs
from searchrl.data.dataset import SPLITS
from searchrl.data.pydocs import load_pydocs


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


@pytest.mark.skipif(sys.version_info[:3] != (3, 11, 7), reason="the file was made by Python 3.11.7")
def test_the_file_is_what_its_script_makes(tmp_path: Path) -> None:
    script = Path(pydocs.__file__).with_name("make.py")
    subprocess.run([sys.executable, "-I", "-S", str(script), str(tmp_path / "corpus.jsonl.gz")], check=True)
    made, shipped = (folder / "corpus.jsonl.gz" for folder in (tmp_path, pydocs.FOLDER))
    assert gzip.decompress(made.read_bytes()) == gzip.decompress(shipped.read_bytes())


def test_every_python_has_the_same_documents() -> None:
    corpus = load_pydocs().corpus
    assert (len(corpus), corpus.fingerprint) == (4236, "01b373fb70c7194f")
