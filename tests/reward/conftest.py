from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from searchrl.models.loader import ModelLoader
from tests.small_models import small_models


@pytest.fixture
def loader() -> Iterator[ModelLoader]:
    """Models on the CPU in float32; nothing is kept."""
    loader = ModelLoader(device="cpu", dtype="float32", cache=False)
    yield loader
    loader.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small model of every kind that there is a scorer for, by what it should be taken for."""
    return small_models(tmp_path_factory.mktemp("models"))
