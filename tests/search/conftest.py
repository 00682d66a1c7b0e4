from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_models import small_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small model of every kind that there is a scorer for, by what it should be taken for."""
    return small_models(tmp_path_factory.mktemp("models"))
