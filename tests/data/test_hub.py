from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from searchrl.data.dataset import Dataset
from searchrl.data.load import load_dataset
from searchrl.errors import DataError

pytest.importorskip("datasets", reason="needs the extra 'hub'")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = [
    pytest.mark.filterwarnings("default"),  # of datasets and what it imports
    pytest.mark.filterwarnings("ignore::searchrl.data.beir.DataWarning"),
]

Configs = dict[str, dict[str, list[dict[str, Any]]]]
CORPUS = [{"_id": "d1", "title": "A", "text": "alpha"}, {"_id": "d2", "title": None, "text": ""}]
QUERIES = [{"_id": "q1", "text": "one"}, {"_id": "q2", "text": "two"}]


def judged(*rows: tuple[Any, Any, Any]) -> list[dict[str, Any]]:
    return [{"query-id": q, "corpus-id": d, "score": s} for q, d, s in rows]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A folder as the hub has it: README.md with the configurations, and parquet files."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def write(configs: Configs, readme: bool = True) -> Path:
        folder = tmp_path / "zoo"
        lines = ["---", "configs:"]
        for config, splits in configs.items():
            lines += [f"- config_name: {config}", "  data_files:"]
            for split, rows in splits.items():
                file = folder / config / f"{split}-00000-of-00001.parquet"
                file.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(pa.Table.from_pylist(rows), file)
                lines += [f"  - split: {split}", f"    path: {file.relative_to(folder)}"]
        if readme:
            (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
        return folder

    return write


def test_judgments_in_default_with_float_scores(make: Callable[..., Path]) -> None:
    qrels = {"validation": judged(("q2", "d2", 1.0)), "test": judged(("q1", "d1", 2.0), ("q1", "d2", 0.0))}
    folder = make({"default": qrels, "corpus": {"corpus": CORPUS}, "queries": {"queries": QUERIES}})
    dataset = load_dataset(str(folder))
    assert dataset.name == "zoo"
    assert (dataset.corpus.titles, dataset.corpus.texts) == (["A", ""], ["alpha", ""])
    assert {split: queries.qrels for split, queries in dataset.splits.items()} == {
        "dev": {"q2": {"d2": 1}},
        "test": {"q1": {"d1": 2, "d2": 0}},
    }
    assert dataset.splits["test"].texts == ["one"], "queries without judgments are left out"


def test_ids_that_are_numbers_and_a_query_configuration(make: Callable[..., Path]) -> None:
    folder = make(
        {
            "qrels": {"test": judged((1, 10, 1), (1, 99, 1))},
            "corpus": {"test": [{"id": 10, "text": "alpha", "url": "u"}, {"id": 20, "text": "beta", "url": None}]},
            "query": {"test": [{"id": 1, "text": "right"}]},
            "queries": {"test": [{"id": 1, "text": "wrong"}]},
        }
    )
    dataset = load_dataset(str(folder))
    assert dataset.corpus.ids == ["10", "20"]
    assert dataset.splits["test"].texts == ["right"]
    assert dataset.splits["test"].qrels == {"1": {"10": 1}}
    assert "1 name documents that are not in the corpus" in dataset.notes[0]


def test_a_folder_without_a_readme_is_read_by_its_files_names(make: Callable[..., Path]) -> None:
    qrels = {"train": judged(("q1", "d1", 1), ("q2", "d2", 1)), "test": judged(("q1", "d1", 1))}
    folder = make({"qrels": qrels, "corpus": {"corpus": CORPUS}, "queries": {"queries": QUERIES}}, readme=False)
    assert list(load_dataset(str(folder)).splits) == ["train", "dev", "test"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"default": {"test": judged(("q1", "d1", 0.5))}}, "whole number"),
        ({"default": {"test": judged(("q9", "d1", 1))}}, "nothing is left"),
        ({"default": {"test": [{"query": "q1"}]}}, "no column 'query-id'"),
        ({"corpus": {"corpus": [CORPUS[0], CORPUS[0]]}}, "comes twice"),
        ({"corpus": {"corpus": [{"key": "d1"}]}}, "no column _id or id"),
        ({"queries": {}}, "BEIR layout|queries"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(change: Configs, message: str, make: Callable[..., Path]) -> None:
    configs: Configs = {
        "default": {"test": judged(("q1", "d1", 1))},
        "corpus": {"corpus": CORPUS},
        "queries": {"queries": QUERIES},
    } | change
    with pytest.raises(DataError, match=message):
        load_dataset(str(make({name: splits for name, splits in configs.items() if splits})))


def test_a_task_of_mteb(make: Callable[..., Path]) -> None:
    pytest.importorskip("mteb", reason="needs the extra 'mteb'")
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalDatasetLoader
    from mteb.tasks import SciFact

    from searchrl.data.mteb import dataset_of

    qrels = {"test": judged(("q1", "d1", 2.0), ("q1", "d2", 0.0))}
    folder = make({"default": qrels, "corpus": {"corpus": CORPUS}, "queries": {"queries": QUERIES}})
    task = SciFact()
    task.dataset = {"default": {"test": RetrievalDatasetLoader(str(folder), None, split="test").load()}}
    dataset = dataset_of(task)
    assert dataset.name == "SciFact"
    assert dataset.corpus.ids == ["d1", "d2"]
    assert dataset.splits["test"].qrels == {"q1": {"d1": 2, "d2": 0}}


def test_a_dataset_that_ir_datasets_knows(small_dataset: Dataset) -> None:
    pytest.importorskip("ir_datasets", reason="needs the extra 'irds'")
    from searchrl.connect.irds import register
    from searchrl.errors import ConfigError

    register("searchrl/read", small_dataset)
    found = load_dataset("irds:searchrl/read")
    assert found.name == "searchrl-read"
    assert found.corpus.fingerprint == small_dataset.corpus.fingerprint
    assert {s: q.fingerprint for s, q in found.splits.items()} == {
        s: q.fingerprint for s, q in small_dataset.splits.items()
    }
    assert list(load_dataset("irds:searchrl/read/test").splits) == ["test"]
    with pytest.raises(ConfigError, match="no such id"):
        load_dataset("irds:no/such")
