from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from searchrl.data.dataset import Dataset
from searchrl.search.searcher import Searcher


@pytest.fixture(scope="session")
def searcher(small_dataset: Dataset, command_cache: Path) -> Iterator[Searcher]:
    """The small collection, embeddings and BM25."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEARCHRL_CACHE", str(command_cache))
        opened = Searcher(small_dataset, device="cpu")
    with opened:
        yield opened


@pytest.fixture(scope="session")
def question(small_dataset: Dataset) -> str:
    """A query that finds something."""
    return small_dataset.splits["test"].texts[0]
