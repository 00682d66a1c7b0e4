from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import searchrl  # noqa: F401 - registers the environment
from searchrl.errors import ConfigError


@pytest.fixture(scope="module")
def env(small_folder: Path) -> gymnasium.Env:
    return gymnasium.make("searchrl/Search-v0", dataset=str(small_folder), device="cpu", cache=False)


def test_check_env_passes_without_warnings(env: gymnasium.Env) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)


def test_same_seed_and_actions_give_the_same_episode(env: gymnasium.Env) -> None:
    def episode() -> list[float]:
        numbers = [float(env.reset(seed=3)[0]["features"].sum())]
        for action in (0, 2, 0, 3):
            seen, reward, *_ = env.step(action)
            numbers += [float(reward), float(seen["features"].sum())]
        return numbers

    assert episode() == episode()


def test_info_and_method_show_the_same_mask(env: gymnasium.Env) -> None:
    _, info = env.reset(seed=0)
    assert info["action_mask"].dtype == np.int8
    assert env.unwrapped.action_masks().dtype == bool  # type: ignore[attr-defined]
    assert info["action_mask"].tolist() == [1, 0, 0, 0]
    _, _, _, _, info = env.step(0)
    assert info["action_mask"].tolist() == [0, 1, 1, 1]


def test_render_tells_the_episode(small_folder: Path) -> None:
    env = gymnasium.make("searchrl/Search-v0", dataset=str(small_folder), render_mode="ansi", device="cpu", cache=False)
    env.reset(seed=0)
    env.step(0)
    assert "step 1" in str(env.render())


def test_unknown_setting_names_the_nearest(small_folder: Path) -> None:
    with pytest.raises(ConfigError, match="max_steps"):
        gymnasium.make("searchrl/Search-v0", dataset=str(small_folder), max_step=3)


def test_registration_needs_only_the_import_in_any_order() -> None:
    for first, second in (("searchrl", "gymnasium"), ("gymnasium", "searchrl")):
        code = f"import {first}, {second}; assert 'searchrl/Search-v0' in gymnasium.registry"
        subprocess.run([sys.executable, "-c", code], check=True)


def test_maskable_ppo_trains_unchanged(env: gymnasium.Env) -> None:
    sb3_contrib = pytest.importorskip("sb3_contrib", reason="needs the extra 'sb3'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sb3's own
        model = sb3_contrib.MaskablePPO("MultiInputPolicy", env, n_steps=100, batch_size=50, n_epochs=1, seed=0)
        before = [p.detach().clone() for p in model.policy.parameters()]
        model.learn(500)
    assert model.num_timesteps >= 500
    assert any(not b.equal(a) for b, a in zip(before, model.policy.parameters(), strict=True))


def test_calls_before_reset_ask_for_it(small_folder: Path) -> None:
    made = gymnasium.make("searchrl/Search-v0", dataset=str(small_folder), device="cpu", cache=False).unwrapped
    for call in (lambda: made.step(0), made.render, made.action_masks, made.final_ranking):  # type: ignore[attr-defined]
        with pytest.raises(gymnasium.error.ResetNeeded, match=r"call reset\(\) before"):
            call()


@pytest.mark.parametrize("action", [4, -1, 1.5, "search", None, True, float("nan"), [0]])
def test_what_is_no_action_is_refused_and_costs_nothing(env: gymnasium.Env, action: object) -> None:
    env.reset(seed=1)
    with pytest.raises(gymnasium.error.InvalidAction, match="must be a whole number from 0 to"):
        env.unwrapped.step(action)  # type: ignore[arg-type]
    for zero in (np.int64(0), 0.0, np.array(0)):
        env.reset(seed=1)
        assert env.unwrapped.step(zero)[4]["action_mask"].tolist() == [0, 1, 1, 1]  # type: ignore[arg-type]


def test_a_deep_copy_goes_on_by_itself(env: gymnasium.Env) -> None:
    env.reset(seed=5)
    env.step(0)
    other = copy.deepcopy(env)
    assert other.unwrapped.game is env.unwrapped.game  # type: ignore[attr-defined]
    ours = [env.step(action)[1] for action in (2, 0, 3)]
    theirs = [other.step(action)[1] for action in (2, 0, 3)]
    assert ours == theirs
    assert env.reset()[1]["query_id"] == other.reset()[1]["query_id"], "both draw on from the same seed"


def test_a_pickle_says_why_not(env: gymnasium.Env) -> None:
    with pytest.raises(pickle.PicklingError, match=r"make it anew with gymnasium\.make\(\)"):
        pickle.dumps(env)
