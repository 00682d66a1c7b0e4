"""A collection as an experiment uses it: documents, and the queries of each split, generated ones included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from searchrl.config import DataConfig
from searchrl.data.dataset import Dataset, QuerySet, Split, train_from_dev
from searchrl.data.load import load_dataset
from searchrl.data.query_bank import load_query_bank_for
from searchrl.errors import ConfigError, DataError


@dataclass(frozen=True)
class Collection:
    """A dataset, and queries that a query bank puts in the place of some of its splits."""

    dataset: Dataset
    generated: Mapping[Split, QuerySet] = field(default_factory=dict)
    """Splits whose queries come from the bank, and their judgments from nobody: relevant is what they are about."""
    bank: Path | None = None

    def queries(self, split: Split) -> QuerySet:
        """The queries of one split. Raises DataError saying which splits there are."""
        if split in self.generated:
            return self.generated[split]
        found = self.dataset.splits.get(split)
        if found is None or not len(found):
            there = ", ".join(self.dataset.splits) or "none"
            hint = (
                "; train on another dataset and evaluate here (transfer), on generated queries (`query_bank`), or on "
                "half of the dev queries (`train_from_dev`)"
                if split == "train"
                else ""
            )
            raise DataError(
                f"dataset {self.dataset.name!r} has no {split} queries with judgments (it has: {there}){hint}"
            )
        return found

    def judged_by(self, split: Split) -> str:
        """Where the judgments of a split are from."""
        return "source documents" if split in self.generated else "human judgments"


def read_collection(data: DataConfig, seed: int) -> Collection:
    """Read, or download, the one collection that ``data`` names.

    ``seed`` settles which train queries become dev where there is no dev split, unless ``data`` has a seed of its own.
    """
    if len(data.datasets) > 1:
        raise ConfigError(f"dataset {data.dataset}: only training works with several at once; name one of them")
    seed = seed if data.split_seed is None else data.split_seed
    dataset = load_dataset(data.dataset, data_dir=data.data_dir, mirror=data.mirror, seed=seed)
    if data.train_from_dev and "train" not in dataset.splits:
        dataset = train_from_dev(dataset, seed)
    if data.query_bank is None:
        return Collection(dataset)
    bank = load_query_bank_for(data.query_bank, dataset.corpus)
    generated: Mapping[Split, QuerySet] = {"train": bank.query_set()} if "dev" in dataset.splits else bank.splits(seed)
    return Collection(dataset, generated, data.query_bank)
