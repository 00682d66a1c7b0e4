from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.data.beir import DataWarning, read_beir_folder, write_beir_folder
from searchrl.data.dataset import Corpus, Dataset, QuerySet
from searchrl.errors import DataError, OutputError


def test_reads_documents_queries_and_grades(make_folder):
    dataset = read_beir_folder(make_folder())
    assert dataset.name == "zoo"
    assert list(dataset.corpus.ids) == ["d1", "d2", "d3"]
    assert list(dataset.corpus.titles) == ["Whales", "", ""]
    assert list(dataset.corpus.texts) == ["Whales are mammals.", "Sharks are fish.", ""]
    assert set(dataset.splits) == {"train", "test"}
    train = dataset.splits["train"]
    assert list(train.ids) == ["q1", "q2"], "the order of queries.jsonl, not of the qrels"
    assert list(train.texts) == ["question 1", "question 2"]
    assert train.qrels == {"q1": {"d2": 1, "d1": 0}, "q2": {"d1": 2}}, "grade 0 is a judgment too"
    assert dataset.splits["test"].qrels == {"q3": {"d1": 1}}
    assert dataset.notes == ()


def test_name_can_be_given(make_folder):
    assert read_beir_folder(make_folder(), name="aquarium").name == "aquarium"


def test_byte_order_mark_crlf_and_blank_lines_change_nothing(make_folder):
    plain = read_beir_folder(make_folder("plain"))

    def decorated(text: str) -> bytes:
        return b"\xef\xbb\xbf" + text.replace("\n", "\r\n\r\n").encode() + b"  \r\n"

    folder = make_folder("windows")
    for path in [*folder.glob("*.jsonl"), *folder.glob("qrels/*.tsv")]:
        path.write_bytes(decorated(path.read_text()))
    windows = read_beir_folder(folder, name="plain")
    assert windows == plain


def test_null_title_is_an_empty_title(make_folder):
    dataset = read_beir_folder(make_folder(corpus='{"_id": "d1", "title": null, "text": "a"}\n', train=None))
    assert list(dataset.corpus.titles) == [""]


FAULTS = {
    "no corpus": ({"corpus": None}, "zoo: .*missing: corpus.jsonl"),
    "no queries": ({"queries": None}, "missing: queries.jsonl"),
    "no qrels": ({"train": None, "test": None}, "missing: any of qrels/train.tsv"),
    "empty corpus": ({"corpus": ""}, r"corpus\.jsonl: empty"),
    "blank queries": ({"queries": "\n \n"}, r"queries\.jsonl: empty"),
    "empty qrels": ({"train": ""}, r"train\.tsv: holds no judgments"),
    "header only": ({"train": "query-id\tcorpus-id\tscore\n"}, r"train\.tsv: holds no judgments"),
    "not JSON": ({"corpus": '{"_id": "d1", "text": "a"}\n\n{"_id": '}, r"corpus\.jsonl, line 3: not JSON"),
    "deep JSON": ({"corpus": "[" * 100_000}, r"corpus\.jsonl, line 1: not JSON"),
    "a list": ({"queries": '["q1", "text"]\n'}, r"queries\.jsonl, line 1: a JSON object is expected"),
    "no _id": ({"corpus": '{"id": "d1", "text": "a"}\n'}, r"corpus\.jsonl, line 1: the field '_id' is missing"),
    "no text": ({"queries": '{"_id": "q1", "query": "a"}\n'}, r"queries\.jsonl, line 1: the field 'text' is missing"),
    "id is a number": ({"corpus": '{"_id": 7, "text": "a"}\n'}, "line 1: '_id' must be a string, not int; write \"7\""),
    "empty id": ({"corpus": '{"_id": "", "text": "a"}\n'}, "line 1: '_id' '' must be non-empty"),
    "id with a space": ({"corpus": '{"_id": "d 1", "text": "a"}\n'}, "'_id' 'd 1' must be non-empty and without white"),
    "null text": ({"corpus": '{"_id": "d1", "text": null}\n'}, "line 1: 'text' must be a string, not NoneType"),
    "title is a list": ({"corpus": '{"_id": "d1", "text": "", "title": []}\n'}, "line 1: 'title' must be a string"),
    "half a surrogate": ({"corpus": '{"_id": "d1", "text": "\\ud83d"}\n'}, r"line 1: 'text' holds '\\ud83d', half"),
    "duplicate document": (
        {"corpus": '{"_id": "d1", "text": "a"}\n\n{"_id": "d1", "text": "a"}\n'},
        r"corpus\.jsonl, line 3: the id 'd1' was used before, in line 1",
    ),
    "duplicate query": (
        {"queries": '{"_id": "q1", "text": "a"}\n{"_id": "q1", "text": "b"}\n'},
        r"queries\.jsonl, line 2: the id 'q1'",
    ),
    "latin-1": ({"corpus": b'{"_id": "d1", "text": "a"}\n{"_id": "d2", "text": "caf\xe9"}\n'}, "line 2: not UTF-8"),
    "no header": ({"train": "q1\td1\t1\n"}, r"train\.tsv, line 1: the header must be query-id"),
    "two columns": ({"train": "query-id\tcorpus-id\tscore\nq1\td1\n"}, r"train\.tsv, line 2: 3 columns .* found 2"),
    "spaces, no tabs": ({"train": "query-id\tcorpus-id\tscore\nq1 d1 1\n"}, "line 2: 3 columns .* found 1"),
    "open quote": ({"train": 'query-id\tcorpus-id\tscore\n"q1\td1\t1\nq1\td2\t1\n'}, "line 2: 3 columns"),
    "grade 1.0": ({"train": "query-id\tcorpus-id\tscore\nq1\td1\t1.0\n"}, "line 2: the grade '1.0' is not an integer"),
    "no grade": ({"train": "query-id\tcorpus-id\tscore\nq1\td1\t\n"}, "line 2: the grade '' is not an integer"),
    "no query": ({"train": "query-id\tcorpus-id\tscore\n\td1\t1\n"}, "line 2: query-id '' must be non-empty"),
    "two grades": (
        {"train": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td1\t2\n"},
        r"train\.tsv, line 3: query 'q1', document 'd1' is judged 2, before 1",
    ),
    "all of unknown documents": (
        {"test": "query-id\tcorpus-id\tscore\nq1\tx\t1\nq2\ty\t1\n"},
        r"test\.tsv: of 2 judgments 2 name documents that are not in the corpus.*nothing is left",
    ),
}


@pytest.mark.parametrize(("files", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_is_one_error_that_names_its_place(make_folder, files, message):
    folder = make_folder(**files)
    with pytest.raises(DataError, match=message) as caught:
        read_beir_folder(folder)
    assert str(folder) in str(caught.value)


def test_everything_missing_is_said_at_once(tmp_path):
    with pytest.raises(DataError, match=r"corpus\.jsonl; queries\.jsonl; any of qrels/train"):
        read_beir_folder(tmp_path)


def test_not_a_folder(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_beir_folder(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="not a folder"):
        read_beir_folder(tmp_path / "file")


def test_unknown_documents_and_queries_are_dropped_with_a_warning_and_a_note(make_folder):
    rows = "q1\td1\t1\nq1\tgone\t1\nq2\tgone\t2\nq9\td1\t1\nq9\td2\t1\n"
    folder = make_folder(train="query-id\tcorpus-id\tscore\n" + rows)
    with pytest.warns(DataWarning, match="train: of 5 judgments 2 name queries that do not exist and 2 name documents"):
        dataset = read_beir_folder(folder)
    assert dataset.splits["train"] == QuerySet(["q1"], ["question 1"], {"q1": {"d1": 1}})
    assert len(dataset.notes) == 1
    assert "with them 1 queries that have no other" in dataset.notes[0]


def test_a_judgment_given_twice_counts_once(make_folder):
    dataset = read_beir_folder(make_folder(train="query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td1\t1\n"))
    assert dataset.splits["train"].qrels == {"q1": {"d1": 1}}


def test_beir_reads_the_same_from_a_sound_folder(make_folder):
    """Our readers stand in for beir's; on a folder that beir can read, they must agree with it."""
    from beir.datasets.data_loader import GenericDataLoader

    folder = make_folder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # beir leaves its files open
        corpus, queries, qrels = GenericDataLoader(str(folder)).load("train")
    dataset = read_beir_folder(folder)
    ours = dataset.splits["train"]
    assert list(corpus) == list(dataset.corpus.ids)
    assert [corpus[i]["text"] for i in corpus] == list(dataset.corpus.texts)
    assert queries == dict(zip(ours.ids, ours.texts, strict=True))
    assert qrels == ours.qrels


ids = st.from_regex(r"""[A-Za-z0-9:"'<>/._-]{1,8}""", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def datasets(draw):
    documents = draw(st.lists(ids, min_size=1, max_size=5, unique=True))
    corpus = Corpus(documents, [draw(texts) for _ in documents], [draw(texts) for _ in documents])
    query_ids = draw(st.lists(ids, min_size=3, max_size=6, unique=True))
    splits = {}
    for split, part in zip(("train", "dev", "test"), (query_ids[:1], query_ids[1:2], query_ids[2:]), strict=True):
        judged = st.dictionaries(st.sampled_from(documents), st.integers(-2, 4), min_size=1)
        splits[split] = QuerySet(part, [draw(texts) for _ in part], {i: draw(judged) for i in part})
    return Dataset("written", corpus, splits)


@settings(max_examples=40, deadline=None)
@given(dataset=datasets())
def test_what_is_written_reads_back_the_same(tmp_path_factory, dataset):
    folder = tmp_path_factory.mktemp("round") / "written"
    write_beir_folder(dataset, folder)
    assert read_beir_folder(folder) == dataset
    assert [path.name for path in folder.parent.iterdir()] == ["written"]


def test_writing_destroys_nothing_and_leaves_nothing_half_done(make_folder, tmp_path):
    dataset = read_beir_folder(make_folder())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="exists already"):
        write_beir_folder(dataset, tmp_path / "zoo")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=re.escape(str(tmp_path / "file" / "sub"))):
        write_beir_folder(dataset, tmp_path / "file" / "sub")
    (tmp_path / "file").unlink()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": QuerySet(["q1"], ["a"])}, "query 'q1' has no judgments"),
        (
            {"train": QuerySet(["q1"], ["a"], {"q1": {"d1": 1}}), "test": QuerySet(["q1"], ["b"], {"q1": {"d1": 1}})},
            "test: query 'q1' has another text",
        ),
    ],
)
def test_what_the_layout_cannot_hold_is_refused(tmp_path, splits, message):
    with pytest.raises(DataError, match=message):
        write_beir_folder(Dataset("x", Corpus(["d1"], [""], ["t"]), splits), tmp_path / "x")
    assert not list(tmp_path.iterdir())


REAL = Path(os.environ.get("SEARCHRL_DATA", "/nowhere"))


@pytest.mark.collections
@pytest.mark.parametrize(
    ("name", "documents", "queries"),
    [
        ("scifact", 5183, {"train": 809, "test": 300}),
        ("entailmentbank", 12104, {"train": 1313, "dev": 187, "test": 340}),
        ("cranfield", 1400, {"test": 225}),
        ("cosqa", 6267, {"dev": 500, "test": 500}),
    ],
)
def test_real_collections(name, documents, queries):
    if not (REAL / name).is_dir():
        pytest.skip(f"SEARCHRL_DATA names no folder with {name}")
    dataset = read_beir_folder(REAL / name)
    assert len(dataset.corpus) == documents
    assert {split: len(part) for split, part in dataset.splits.items()} == queries
    assert dataset.notes == ()
