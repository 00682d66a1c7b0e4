"""The models of a stage, as its flags name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from searchrl.fitting.stage_config import LanguageModelConfig
from searchrl.models.loader import ModelLoader

if TYPE_CHECKING:
    from searchrl.config import ScorerName
    from searchrl.reward.reward_model import RewardModel


def stage_loader(config: LanguageModelConfig) -> ModelLoader:
    """Makes the stage's models; to be closed."""
    return ModelLoader(config.serving, device=config.device, dtype=config.dtype, cache=config.cache)


def stage_scorer(model_name: str | None, scorer: ScorerName, loader: ModelLoader) -> RewardModel:
    """A reward model behind the memory of its scores, so that a killed stage goes on where it stopped."""
    from searchrl.reward.registry import ScorerSettings, make_reward

    return make_reward(model_name, ScorerSettings(scorer), loader)


def parameters(model_name: str | None, loader: ModelLoader) -> int | None:
    """Number of weights of the stage's language model; None where a server runs it."""
    if loader.engine == "http":
        return None
    from searchrl.models.folders import default_language_model, language_model_folder
    from searchrl.models.loading import causal_lm_facts

    name = model_name or default_language_model("cuda" if loader.engine == "vllm" else loader.device.device)
    return causal_lm_facts(name, language_model_folder(name)).parameters


def is_small(model_name: str | None, loader: ModelLoader) -> bool:
    """Whether the stage's language model is too small to follow instructions (``presets.SMALL_MODEL``)."""
    from searchrl.models.folders import SMALL_MODEL

    size = parameters(model_name, loader)
    return size is not None and size < SMALL_MODEL
