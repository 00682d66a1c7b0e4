"""The models of a stage, as its settings name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from searchrl.config import LanguageModelConfig
from searchrl.models.loader import ModelLoader

if TYPE_CHECKING:
    from searchrl.config import ScorerName
    from searchrl.reward.reward_model import RewardModel


def open_models(config: LanguageModelConfig, show_progress: bool = False) -> ModelLoader:
    """Makes the stage's models; to be closed."""
    device, cache = config.compute.device, config.compute.cache
    return ModelLoader(config.serving, device=device, dtype=config.dtype, cache=cache, show_progress=show_progress)


def kept_reward_model(model_name: str | None, scorer: ScorerName, loader: ModelLoader) -> RewardModel:
    """A reward model behind the memory of its scores, so that a killed stage goes on where it stopped."""
    from searchrl.reward.registry import ScorerSettings, make_reward

    return make_reward(model_name, ScorerSettings(scorer), loader)


def is_small(model_name: str | None, loader: ModelLoader) -> bool:
    """Whether the language model of this name (None: the device's) is too small to follow instructions
    (``presets.SMALL_MODEL``). What a server runs counts as large.
    """
    from searchrl.models.folders import SMALL_MODEL, default_language_model, language_model_folder
    from searchrl.models.loading import causal_lm_facts

    if loader.engine == "http":
        return False
    name = model_name or default_language_model("cuda" if loader.engine == "vllm" else loader.device.device)
    return causal_lm_facts(name, language_model_folder(name)).parameters < SMALL_MODEL
