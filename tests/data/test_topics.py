from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from searchrl.data.load import load_dataset
from searchrl.data.topics import read_topics
from searchrl.errors import DataError

TREC = """<top>
<num> Number: 301
<title> International Organized
 Crime
<desc> Description:
Identify organizations that participate.
</top>
<top>
<num> Number: 302 <title> Poliomyelitis &amp; Post-Polio
<desc> Is it under control?
</top>
"""
XML = """<?xml version="1.0"?>
<topics><topic number="1"><query>coronavirus origin</query><question>where from</question></topic>
<topic number="2">A patient of 45 years.</topic></topics>
"""


@pytest.mark.parametrize(
    ("content", "topics"),
    [
        (TREC, {"301": "International Organized Crime", "302": "Poliomyelitis & Post-Polio"}),
        (XML, {"1": "coronavirus origin", "2": "A patient of 45 years."}),
        ("7\twhat is it\n8\ta  b\n", {"7": "what is it", "8": "a b"}),
    ],
)
def test_topics_in_every_form_packed_or_not(content: str, topics: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "topics.txt").write_text(content)
    (tmp_path / "topics.txt.gz").write_bytes(gzip.compress(content.encode()))
    assert read_topics(tmp_path / "topics.txt") == read_topics(tmp_path / "topics.txt.gz") == topics


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("7 no tab\n", "line 1"),
        ("<top><title> x</top>", "topic 1: has no number"),
        ("<top><num> 1 <desc> x</top>", "title"),
        ("1\ta\n1\tb\n", "was there before"),
        ("<html></html>", "no topics"),
    ],
)
def test_what_is_wrong_with_topics_is_said(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "topics.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        read_topics(tmp_path / "topics.txt")


def test_a_folder_with_trec_topics_and_qrels_is_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "text": "alpha"}\n{"_id": "d2", "text": "beta"}\n')
    (tmp_path / "topics.txt").write_text(TREC)
    (tmp_path / "qrels.txt.gz").write_bytes(gzip.compress(b"301 0 d1 2\n301 0 d2 0\n302 0 d2 1\n"))
    dataset = load_dataset(str(tmp_path))
    assert list(dataset.splits) == ["test"]
    assert dataset.splits["test"].qrels == {"301": {"d1": 2, "d2": 0}, "302": {"d2": 1}}
    assert dataset.splits["test"].texts[0] == "International Organized Crime"
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "train.tsv").write_text("301 0 d1 1\n302 0 d2 1\n")
    assert list(load_dataset(str(tmp_path)).splits) == ["train", "dev", "test"]
