"""Settings given from Python: of the declared type, or refused with one error before anything is read."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import searchrl
from searchrl.config import (
    DataConfig,
    EngineConfig,
    GameConfig,
    IndexConfig,
    LearningConfig,
    ModelConfig,
    OutputConfig,
    RayConfig,
    pick_settings,
)
from searchrl.errors import ConfigError, DeviceError, SearchRLError
from searchrl.experiment.parts import open_models
from tests.search.test_arguments import ANYTHING

GROUPS = (DataConfig, ModelConfig, EngineConfig, GameConfig, LearningConfig, OutputConfig)
NAMES = [(kind, name) for kind in GROUPS for name in kind.__dataclass_fields__]


@given(st.sampled_from(NAMES), ANYTHING)
def test_settings_of_any_type(field: tuple[type[Any], str], value: Any) -> None:
    kind, name = field
    with contextlib.suppress(SearchRLError):
        kind(**{name: value})
    if kind not in (LearningConfig, OutputConfig):
        with contextlib.suppress(SearchRLError):
            pick_settings({name: value})


@pytest.mark.parametrize("value", [0.5, "0.5", True, {0.5}])
def test_one_value_is_no_list(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"`trust` is .*, which is not a list of float"):
        GameConfig(trust=value)


def test_numbers_and_paths_are_taken_by_value() -> None:
    game = GameConfig(max_steps=np.int64(4), anchor=np.float32(0.5), trust=[0, 0.5], judge_depth=20)  # type: ignore[arg-type]
    assert (game.max_steps, game.anchor, game.trust) == (4, 0.5, (0, 0.5))
    assert type(game.max_steps) is int
    data = DataConfig(dataset=Path("here"), data_dir="there")  # type: ignore[arg-type]
    assert (data.dataset, data.data_dir) == ("here", Path("there"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: searchrl.prepare("pydocs", depth="ten"), "`depth` is 'ten', which is not int"),
        (lambda: searchrl.prepare(3), "`dataset` is 3, which is not str"),
        (lambda: searchrl.prepare("pydocs", seed=1.5), "`seed` is 1.5, which is not int"),
        (lambda: searchrl.prepare("pydocs", retriever="densest"), "`retriever`: unknown value 'densest'"),
        (lambda: searchrl.train(None, lr="fast"), "`lr` is 'fast', which is not float"),
        (lambda: searchrl.train(None, learning_rate=1), "unknown setting 'learning_rate'"),
        (lambda: searchrl.train(3), "`prepared` is 3: give what prepare gave"),
        (lambda: searchrl.evaluate(3), "`policy` is 3: give what train gave"),
        (lambda: searchrl.evaluate(split="tests"), "`split`: unknown value 'tests'"),
        (lambda: searchrl.evaluate(num_queries="all"), "`num_queries` is 'all', which is not int"),
        (lambda: searchrl.evaluate(dataset=["a"]), "`dataset` is ['a']"),
    ],
)
def test_one_error_before_work_begins(call: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    assert message in str(caught.value)


def test_no_name_or_password_in_an_address() -> None:
    """It would be written down: in config.json, checkpoints and errors."""
    with pytest.raises(ConfigError, match="`api_key_env`") as caught:
        EngineConfig(engine="http", base_url="http://me:sesame@127.0.0.1:8000")
    assert "sesame" not in str(caught.value)


def test_a_device_for_each_model() -> None:
    """A number is a CUDA device's, of which there are never ten here; the encoder stays where it is."""
    for models, game in (
        (ModelConfig(device="cpu", reward_device="9"), GameConfig(reward="lm")),
        (ModelConfig(device="cpu", reformulator_device="cuda:9"), GameConfig(reward="qrels", reformulator="lm")),
    ):
        with pytest.raises(DeviceError, match="device 'cuda:9' is not here"):
            open_models(models, game)
    with pytest.raises(ConfigError, match="`reformulator_device` 0 with `engine` http"):
        ModelConfig(reformulator_device="0", serving=EngineConfig(engine="http", base_url="http://127.0.0.1:1"))
    with open_models(ModelConfig(device="cpu", reward_device="cpu", cache=False), GameConfig(reward="lm")) as opened:
        assert opened.judges is not opened.loader
        assert opened.writers is opened.loader


def test_from_python_no_language_model_takes_part_unless_it_is_asked_for() -> None:
    def chosen(**settings: Any) -> tuple[str, int, str]:
        game = pick_settings(settings)[2]
        return game.reward, game.judge_depth, game.reformulator

    assert chosen() == ("qrels", 0, "feedback")
    assert chosen(judge_depth=5) == ("qrels", 5, "feedback")
    assert chosen(reformulator="lm") == ("qrels", 0, "lm")
    assert chosen(reward="lm") == ("lm", 10, "auto")


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        ("ray", ModelConfig(cluster=RayConfig(ray="local"))),
        ("pymilvus", ModelConfig(indexing=IndexConfig("milvus", "x.db"))),
    ],
)
def test_a_missing_extra_is_said_before_work(
    module: str, settings: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("searchrl.extras.is_installed", lambda name: name != module)
    with pytest.raises(ConfigError, match=f"the package {module} is missing: pip install"):
        open_models(settings, GameConfig(reward="qrels", judge_depth=0))
