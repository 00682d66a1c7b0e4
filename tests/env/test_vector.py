from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

import searchrl  # noqa: F401 - registers the environment
from searchrl.env.vector import VectorSearchEnv
from searchrl.errors import ConfigError

ENVS = 4


@pytest.fixture(scope="module")
def envs(small_folder: Path, command_cache: Path) -> VectorSearchEnv:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEARCHRL_CACHE", str(command_cache))
        found = gymnasium.make_vec(
            "searchrl/Search-v0",
            num_envs=ENVS,
            vectorization_mode="vector_entry_point",
            dataset=str(small_folder),
            device="cpu",
        )
    assert isinstance(found, VectorSearchEnv)
    return found


def test_observations_lie_in_their_space_and_belong_to_the_caller(envs: VectorSearchEnv) -> None:
    seen, _ = envs.reset(seed=0)
    assert seen in envs.observation_space
    before = {name: value.copy() for name, value in seen.items()}
    after, *_ = envs.step(np.zeros(ENVS, dtype=np.int64))
    assert after in envs.observation_space
    assert all((seen[name] == before[name]).all() for name in seen)
    for value in after.values():
        value[:] = 0  # a caller's own
    again, _ = envs.reset(seed=0)
    assert all((again[name] == before[name]).all() for name in seen)


def test_given_queries_are_played(envs: VectorSearchEnv) -> None:
    ids = list(envs._ids[[3, 1, 3, 0]])
    assert list(envs.reset(options={"query": ids})[1]["query_id"]) == ids
    with pytest.raises(ConfigError, match="4 ids"):
        envs.reset(options={"query": ["nobody"] * 4})
    with pytest.raises(gymnasium.error.InvalidAction, match="0 to 3"):
        envs.step(np.array([0, 0, 0, 9]))
