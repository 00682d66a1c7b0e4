"""Whatever a file holds, a loader reads it or says in one error what is wrong: never another exception."""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.data.beir import DataWarning, read_beir_folder, read_qrels
from searchrl.data.download import BadArchive, unzip_beir
from searchrl.data.query_bank import FORMAT, load_query_bank
from searchrl.data.records import read_records
from searchrl.data.trec import read_trec_qrels, read_trec_run
from searchrl.errors import SearchRLError
from searchrl.evaluation.results import read_records as read_stage_records
from searchrl.evaluation.results import read_results
from searchrl.evaluation.runs import read_judgments
from searchrl.retrieval.tagtree.build import read_inventory

AWKWARD = [10**400, 10**39, -1, True, float("nan"), float("inf"), None, "", " ", "d1", "\ud800", "\0", "1", [], {}]
"""Numbers that no float holds and strings that no file can hold are among them."""
values = st.sampled_from(AWKWARD) | st.recursive(
    st.sampled_from(AWKWARD) | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["d1", "_id", "x"]), inner, max_size=3),
    max_leaves=6,
)

header = {FORMAT: 1, "model": "m", "prompt_version": "1", "corpus_fingerprint": "f", "seed": 1}
header |= {"judge": "j", "settings": {"num_single": 1}}
query = {"_id": "q1", "title": "", "text": "a", "type": "single", "source_ids": ["d1"], "difficulty": None}


def but_one_field(*lines: dict[str, object]) -> list[list[dict[str, object]]]:
    """Sound lines with one field of one of them replaced by anything awkward, in every way there is."""
    return [
        [*lines[:i], line | {name: value}, *lines[i + 1 :]]
        for i, line in enumerate(lines)
        for name in line
        for value in [*AWKWARD, ["d1", *AWKWARD]]
    ]


def as_lines(values: list[object]) -> bytes:
    return "\n".join(json.dumps(value) for value in values).encode()


cells = st.sampled_from(["q1", "d1", "0", "1", "-3", "1.5", "nan", "1e99", "Q0", "tag", '"', "\x1c", "\x85", "\0", "٣"])
rows = st.lists(st.lists(cells | st.text(max_size=3), max_size=7), max_size=5)
tables = st.builds(
    lambda head, table, tab, end: (head + end.join(tab.join(row) for row in table)).encode("utf-8", "replace"),
    st.sampled_from(["", "query-id\tcorpus-id\tscore\n"]),
    rows,
    st.sampled_from(["\t", " "]),
    st.sampled_from(["\n", "\r\n", "\r", "\x0c"]),
)
anything = (
    st.binary(max_size=80)
    | tables
    | st.lists(values, max_size=3).map(as_lines)
    | values.map(lambda value: json.dumps(value).encode())
)

record = {"query_id": "q1", "key_ids": ["d1", "d2"], "scores": [1.0, 0.5], "positive_key_ids": []}
stage_fields = st.dictionaries(st.sampled_from(list(record)), values, max_size=2)
stage_files = st.lists(stage_fields.map(lambda fields: record | fields) | values, max_size=3) | st.dictionaries(
    st.sampled_from(["q1", "q 2", ""]), st.dictionaries(st.sampled_from(["d1", "d 2", "\udfff"]), values, max_size=2)
)

READERS: list[Callable[[Path], object]] = [
    read_records,
    read_qrels,
    read_trec_run,
    read_trec_qrels,
    load_query_bank,
    read_judgments,
    read_results,
    read_stage_records,
    read_inventory,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@contextlib.contextmanager
def refusal(path: Path) -> Iterator[None]:
    """An error may come out of this block, if it is ours and names the file."""
    try:
        yield
    except SearchRLError as error:
        message = str(error)
    else:
        message = str(path)
    assert str(path) in message


def read_or_refuse(read: Callable[[Path], object], path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with refusal(path):
        read(path)


@pytest.mark.parametrize("read", READERS, ids=lambda read: f"{read.__module__.rpartition('.')[2]}.{read.__name__}")
@settings(max_examples=60)
@given(content=anything)
def test_a_file_is_read_or_refused(folder: Path, read: Callable[[Path], object], content: bytes) -> None:
    read_or_refuse(read, folder / "file.json", content)


@pytest.mark.parametrize("read", [read_results, read_stage_records])
@settings(max_examples=60)
@given(content=stage_files.map(lambda value: json.dumps(value).encode()))
def test_a_stage_file_is_read_or_refused(folder: Path, read: Callable[[Path], object], content: bytes) -> None:
    read_or_refuse(read, folder / "file.json", content)


def test_any_one_field_may_be_wrong(folder: Path) -> None:
    for lines in but_one_field(header, query, query | {"_id": "q2"}):
        read_or_refuse(load_query_bank, folder / "file.json", as_lines(lines))
    for lines in but_one_field(query, query | {"_id": "q2"}):
        read_or_refuse(read_records, folder / "file.json", as_lines(lines))
    for records in but_one_field(record, record | {"query_id": "q2"}):
        read_or_refuse(read_stage_records, folder / "file.json", json.dumps(records).encode())
        read_or_refuse(read_results, folder / "file.json", json.dumps(records).encode())


def test_any_part_of_an_inventory_may_be_wrong(folder: Path) -> None:
    about = {"dataset": "d", "corpus_fingerprint": "f", "tagger": "t", "model": "m", "prompt_version": "1", "seed": 1}
    about["settings"] = {"max_share": 0.1}
    inventory = {"searchrl_tags": 1, "header": about, "documents": {"d1": ["a"]}, "tags": {"a": ["d1"]}}
    (wholes,) = zip(*but_one_field(inventory), strict=True)
    headers = [inventory | {"header": changed} for (changed,) in but_one_field(about)]
    documents = [inventory | {"documents": {"d1": value}} for value in [*AWKWARD, AWKWARD]]
    for content in [inventory, *wholes, *headers, *documents]:
        read_or_refuse(read_inventory, folder / "file.json", json.dumps(content).encode())


SOUND = {
    "corpus.jsonl": b'{"_id": "d1", "title": "", "text": "a"}\n',
    "queries.jsonl": b'{"_id": "q1", "text": "a"}\n',
    "qrels/test.tsv": b"query-id\tcorpus-id\tscore\nq1\td1\t1\n",
}


@settings(max_examples=60)
@given(name=st.sampled_from(list(SOUND)), content=anything)
def test_a_collection_is_read_or_refused(folder: Path, name: str, content: bytes) -> None:
    (folder / "qrels").mkdir(exist_ok=True)
    for file, sound in SOUND.items():
        (folder / file).write_bytes(content if file == name else sound)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        with refusal(folder):
            dataset = read_beir_folder(folder)
            assert len(dataset.corpus) >= 1
            assert dataset.splits["test"].judged


@settings(max_examples=60)
@given(content=st.binary(max_size=200), cut=st.integers(0, 400), at=st.integers(0, 400), damage=st.booleans())
def test_an_archive_is_unpacked_or_refused(folder: Path, content: bytes, cut: int, at: int, damage: bool) -> None:
    path, target = folder / "zoo.zip", folder / "unpacked"
    with zipfile.ZipFile(path, "w") as archive:
        for file, sound in SOUND.items():
            archive.writestr(f"zoo/{file}", sound)
    whole = bytearray(path.read_bytes())
    if damage:
        whole[at % len(whole)] ^= 0xFF
        path.write_bytes(whole[: len(whole) - cut % 60])
    else:
        path.write_bytes(content)
    try:
        unzip_beir(path, "zoo", target)
    except (BadArchive, SearchRLError):
        assert not target.exists()
    else:
        shutil.rmtree(target)
