"""A collection with judged test queries and nothing to train on: a bank of generated queries is its train and dev."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from searchrl.config import DataConfig
from searchrl.data.beir import write_beir_folder
from searchrl.data.dataset import Dataset
from searchrl.data.query_bank import BankHeader, BankQuery, QueryBank, write_query_bank
from searchrl.errors import ConfigError, DataError
from searchrl.experiment.prepare import read_collection
from tests.command import Shell


@pytest.fixture
def folder(small_dataset: Dataset, tmp_path: Path) -> Path:
    """The small collection without its train and dev queries."""
    write_beir_folder(replace(small_dataset, splits={"test": small_dataset.splits["test"]}), tmp_path / "tested")
    return tmp_path / "tested"


@pytest.fixture
def bank(small_dataset: Dataset, tmp_path: Path) -> Path:
    """The train queries as if they had been generated."""
    train = small_dataset.splits["train"]
    queries = [
        BankQuery(query, text, "single", [next(d for d, grade in train.qrels[query].items() if grade)])
        for query, text in zip(train.ids, train.texts, strict=True)
    ]
    header = BankHeader("model", "prompts", small_dataset.corpus.fingerprint, 1)
    write_query_bank(tmp_path / "bank.jsonl", QueryBank(header, queries))
    return tmp_path / "bank.jsonl"


def test_an_agent_is_trained_on_the_bank_and_tested_on_people(
    shell: Shell, folder: Path, bank: Path, flags: list[str]
) -> None:
    trained = shell.train(*flags, "--dataset", folder, "--query-bank", bank, "--episodes", 64).ok
    assert re.search(r"generated queries: \d+ train, \d+ dev; relevant is what they were written from", trained.out)
    assert "train, by source documents" in trained.out
    assert "human judgments" not in trained.out
    evaluated = shell.eval("--output-dir", "results").ok
    assert "rl_agent" in evaluated.out
    assert (shell.folder / "results" / "per_query.jsonl").exists()


def test_train_and_dev_share_no_query_and_no_document(folder: Path, bank: Path) -> None:
    data = DataConfig(dataset=str(folder), query_bank=bank)
    bench = read_collection(data, seed=3)
    train, dev, test = (bench.queries(split) for split in ("train", "dev", "test"))
    assert len(train) + len(dev) == 12
    assert len(dev) >= 1
    documents = [{d for grades in queries.qrels.values() for d in grades} for queries in (train, dev)]
    assert not documents[0] & documents[1]
    assert not set(train.ids) & set(test.ids)


def test_without_a_bank_it_says_what_to_do(folder: Path) -> None:
    bench = read_collection(DataConfig(dataset=str(folder)), seed=42)
    with pytest.raises(DataError, match="`query_bank`"):
        bench.queries("train")


def test_generated_queries_beside_real_ones(small_dataset: Dataset, bank: Path, tmp_path: Path) -> None:
    write_beir_folder(small_dataset, tmp_path / "whole")
    data = DataConfig(dataset=str(tmp_path / "whole"), query_bank=bank)
    real, alone = read_collection(replace(data, query_bank=None), seed=3), read_collection(data, seed=3)
    mixed = read_collection(replace(data, mix_query_bank=True), seed=3)
    assert len(mixed.queries("train")) == len(real.queries("train")) + len(alone.queries("train"))
    assert mixed.queries("dev") == real.queries("dev")
    assert mixed.judged_by("train") == "human judgments and source documents"


def test_mixing_needs_both(folder: Path, bank: Path) -> None:
    with pytest.raises(DataError, match="has no train queries"):
        read_collection(DataConfig(dataset=str(folder), query_bank=bank, mix_query_bank=True), seed=3)
    with pytest.raises(ConfigError, match="`mix_query_bank` needs `query_bank`"):
        DataConfig(mix_query_bank=True)
