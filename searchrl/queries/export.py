"""A query bank and its corpus as a dataset of their own, to be written as a BEIR folder."""

from __future__ import annotations

from searchrl.data.dataset import Dataset, QuerySet, Split
from searchrl.data.query_bank import QueryBank


def as_dataset(dataset: Dataset, bank: QueryBank, seed: int) -> Dataset:
    """The corpus with the bank's queries as ``train`` and ``dev`` (``QueryBank.splits``), and with the dataset's own
    ``test`` queries, where it has any: what was learned from generated queries is measured on human judgments.
    """
    test = dataset.splits.get("test")
    own: dict[Split, QuerySet] = {} if test is None else {"test": test}
    return Dataset(dataset.name, dataset.corpus, {**bank.splits(seed), **own})
