"""The models of an experiment: made once, for all its collections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchrl.config import GameConfig, ModelConfig
from searchrl.device import DeviceChoice, processor, with_dtype
from searchrl.experiment.parts import (
    judging_method,
    judging_use,
    lm_name,
    make_encoder,
    make_lm_reward,
    make_loader,
    make_reward_model,
    make_writer,
)
from searchrl.models.prompts import load_prompts

if TYPE_CHECKING:
    from searchrl.models.encoder import Encoder
    from searchrl.models.language_model import Engine
    from searchrl.models.loader import ModelLoader, Use
    from searchrl.reward.reward_model import RewardModel


@dataclass(frozen=True)
class Models:
    """Encoder, reward model and language models, to be closed; weights are loaded when they are first needed."""

    settings: ModelConfig
    loader: ModelLoader
    encoder: Encoder
    reward_model: RewardModel | None
    """Scores documents while the agent searches; None where only people judge, after the fact."""
    language_models: Mapping[str, Engine]
    """What the language model does in the game, and what runs it: once, where one format does for all."""

    @property
    def device(self) -> DeviceChoice:
        """Where models of this process run, and why."""
        return self.loader.device

    @property
    def cache(self) -> Path | None:
        """The folder for whatever can be computed again; None without a cache."""
        return self.loader.cache

    @property
    def computed(self) -> dict[str, Any]:
        """What results depend on beside settings and data: the processor, and each model with its numeric format."""
        models = {"encodes": f"{self.encoder.name} in {self.encoder.dtype}"}
        models |= {does: lm.description.partition(" (")[0] for does, lm in self.language_models.items()}
        if self.reward_model is not None and not any("judges" in does for does in self.language_models):
            models["judges"] = f"{self.settings.reward_model} in {with_dtype(self.device, self.settings.dtype).dtype}"
        return {"processor": processor(), "models": models}

    def close(self) -> None:
        """Close the language models and their cache; what was computed stays."""
        self.loader.close()

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_models(settings: ModelConfig, game: GameConfig, show_progress: bool = False) -> Models:
    """Make the models that a game needs, and find out that they are there, before anything slow begins.

    Raises ConfigError where settings do not go together, ModelError where a model cannot be had, EngineError where a
    server does not answer, or does not agree with the golden model.
    """

    def reward_model(loader: ModelLoader) -> RewardModel | None:
        return make_reward_model(settings, game, loader)

    return _open(settings, reward_model, game.reward == "lm", "lm" in game.reformulator, show_progress)


def open_writer(settings: ModelConfig, judges: bool, show_progress: bool = False) -> Models:
    """The same for a language model that writes and, if ``judges``, is the reward model too."""

    def reward_model(loader: ModelLoader) -> RewardModel | None:
        return make_lm_reward(settings, loader) if judges else None

    return _open(settings, reward_model, judges, True, show_progress)


def _open(
    settings: ModelConfig,
    make_reward: Callable[[ModelLoader], RewardModel | None],
    judges: bool,
    writes: bool,
    show_progress: bool,
) -> Models:
    loader = make_loader(settings, show_progress)
    try:
        encoder = make_encoder(settings, loader.device)
        engines = _language_models(settings, loader, judges, writes)
        reward_model = make_reward(loader)
        load_prompts(settings.prompts)
        for lm in engines.values():
            _ = lm.fingerprint
        if writes:
            make_writer(settings, loader)  # and its golden check; the judge's came with the reward model
    except BaseException:
        loader.close()
        raise
    return Models(settings, loader, encoder, reward_model, engines)


def _language_models(settings: ModelConfig, loader: ModelLoader, judges: bool, writes: bool) -> Mapping[str, Engine]:
    """What runs the language model, by what it does."""
    uses: dict[str, Use] = {}
    if judges:
        uses["judges"] = judging_use(judging_method(settings, loader))
    if writes:
        uses["writes"] = "chat"
    engines = {does: loader.backend(lm_name(settings), use, stop_at_newline=True) for does, use in uses.items()}
    if len(engines) == 2 and engines["judges"] is engines["writes"]:
        return {"judges and writes": engines["writes"]}
    return engines
