"""Preferences that a tiny model can learn, and tiny models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from searchrl.fitting.records import write_pairs
from tests.small_models import CHAT, small_causal_lm, small_classifier

WORDS = "red green blue apple stone river cloud metal paper glass tiger piano lemon chair table".split()


def pairs(count: int, seed: int) -> list[dict[str, object]]:
    """Queries whose better document says so in a word; the rest is noise."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        query, one, other = (" ".join(random.choice(WORDS, size)) for size in (2, 4, 4))
        found.append(
            {"query": query, "chosen": f"useful {one}", "rejected": f"empty {other}", "query_id": f"{seed}-{number}"}
        )
    return found


@pytest.fixture(scope="session")
def train_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "dataset_list_train.json"
    write_pairs(path, pairs(96, 0))
    return path


@pytest.fixture(scope="session")
def test_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "dataset_list_test.json"
    write_pairs(path, pairs(24, 1))
    return path


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_classifier(tmp_path_factory.mktemp("head"))


@pytest.fixture(scope="session")
def chat_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_classifier(tmp_path_factory.mktemp("chat"), chat_template=CHAT)


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_causal_lm(tmp_path_factory.mktemp("lm"), "qwen2")
