from __future__ import annotations

from pathlib import Path

import pytest

from searchrl.data.beir import read_beir_folder, write_beir_folder
from searchrl.data.dataset import Dataset
from searchrl.data.query_bank import BankHeader, BankQuery, QueryBank
from searchrl.queries.generate import as_dataset


@pytest.fixture
def bank(small_dataset: Dataset) -> QueryBank:
    """Two questions about each of forty documents."""
    ids = small_dataset.corpus.ids[:40]
    queries = [BankQuery(f"single-{i}-{k}", f"what is {i}, {k}", "single", [i]) for i in ids for k in (1, 2)]
    return QueryBank(BankHeader("m", "1", small_dataset.corpus.fingerprint, 1), queries)


def test_a_bank_becomes_a_folder_to_train_on_and_to_test_with_people(
    small_dataset: Dataset, bank: QueryBank, tmp_path: Path
) -> None:
    write_beir_folder(as_dataset(small_dataset, bank, seed=1), tmp_path / "made")
    made = read_beir_folder(tmp_path / "made")
    assert made.corpus.fingerprint == small_dataset.corpus.fingerprint
    assert made.splits["test"] == small_dataset.splits["test"]
    assert sorted([*made.splits["train"].ids, *made.splits["dev"].ids]) == sorted(q.id for q in bank.queries)
    assert 2 <= len(made.splits["dev"]) < 40 < len(made.splits["train"])
    asked_of = {
        split: {d for grades in queries.qrels.values() for d in grades} for split, queries in made.splits.items()
    }
    assert not asked_of["train"] & asked_of["dev"], "no document is trained on and chosen by"
    assert as_dataset(small_dataset, bank, seed=1) == as_dataset(small_dataset, bank, seed=1)
    assert as_dataset(small_dataset, bank, seed=2).splits["dev"] != made.splits["dev"]


def test_a_dataset_without_test_queries_has_none_afterwards(small_dataset: Dataset, bank: QueryBank) -> None:
    assert set(as_dataset(Dataset("x", small_dataset.corpus, {}), bank, 1).splits) == {"train", "dev"}


def test_one_document_is_all_train(small_dataset: Dataset, bank: QueryBank) -> None:
    few = QueryBank(bank.header, bank.queries[:2])
    assert set(few.splits(1)) == {"train"}
