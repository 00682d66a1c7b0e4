from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.bench import Bench
from searchrl.config import ModelConfig, TrainConfig
from searchrl.data.dataset import Dataset
from searchrl.errors import ConfigError, DataError
from searchrl.search.searcher import Searcher
from tests.service.parts import untrained_policy


def test_it_finds_by_a_plain_search_or_by_an_agent(
    small_dataset: Dataset,
    small_folder: Path,
    command_cache: Path,
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEARCHRL_CACHE", str(command_cache))
    queries, policy = small_dataset.splits["test"], tmp_path / "policy.pt"
    recorded = TrainConfig(models=ModelConfig(device="cpu", cache=False), game=bench.game_config)
    untrained_policy(policy, bench, bench.game.feature_names, recorded)
    with Searcher(small_dataset, device="cpu") as plain:
        found = plain.search(queries.texts, 5)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda text: plain.search([text], 5)[0], queries.texts)) == found
        assert plain.search([], 5) == []
        with pytest.raises(ConfigError, match="k"):
            plain.search(queries.texts, 0)
        with pytest.raises(DataError):
            plain.search("one text", 5)
    assert [len(one) for one in found] == [5] * len(queries)
    assert found[0][0].key
    with Searcher(str(small_folder), policy, device="cpu") as agent:
        assert agent.dataset.corpus.ids == small_dataset.corpus.ids
        assert [len(one) for one in agent.search(queries.texts, 5)] == [5] * len(queries)
