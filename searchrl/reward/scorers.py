"""From a model's name to the reward model that scores with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from searchrl.errors import ConfigError, nearest
from searchrl.models.loader import CONTEXT_TOKENS, ModelLoader
from searchrl.reward.detect import ScorerKind, detect_scorer

if TYPE_CHECKING:
    from searchrl.reward.reward_model import RewardModel

ScorerName = Literal["auto", "yes_no", "graded", "likelihood", "pmi", "head", "cross_encoder", "qwen3_reranker"]

KEY_WORDS = {"lm": 80, "qwen3_reranker": 400}
"""Words of a key that language models read unless told otherwise."""

TOKENS_PER_WORD = 3
"""At most, of prose; a word of the cut counts 8 characters."""


@dataclass(frozen=True)
class ScorerSettings:
    """How a model scores.

    name: ``auto`` looks into the model's folder; a language model then judges by likelihood below about 1B parameters,
    else by grades. instruction: ``qwen3_reranker`` only. max_key_words: language models only; None for ``KEY_WORDS``.
    prompts: TOML file laid over ``searchrl/prompts.toml``.

    Raises ConfigError on an unknown name or an impossible limit.
    """

    name: ScorerName = "auto"
    instruction: str | None = None
    max_key_words: int | None = None
    prompts: Path | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(ScorerName):
            raise ConfigError(f"unknown scorer {self.name!r}: {nearest(str(self.name), get_args(ScorerName))}")
        if self.max_key_words is not None and self.max_key_words < 1:
            raise ConfigError(f"max_key_words is {self.max_key_words}; it must be at least 1")

    def refuse(self, kind: str, *settings: str) -> None:
        """Raise ConfigError where any of ``settings`` was given, which this kind of scorer would ignore."""
        for setting in settings:
            if getattr(self, setting) is not None:
                raise ConfigError(f"{setting} is not a setting of the scorer {kind!r}: leave it out")


def make_scorer(model_name: str | None, settings: ScorerSettings, loader: ModelLoader) -> RewardModel:
    """The reward model behind a name. None: the device's language model, or the one model that a server serves.

    Raises ConfigError where settings, engine and model do not go together, ModelError where the model cannot be had.
    """
    kind = _kind(model_name, settings, loader)
    if kind in ("head", "cross_encoder"):
        settings.refuse(kind, "instruction", "max_key_words", "prompts")
        return _classifier(model_name, kind, loader)
    if kind == "qwen3_reranker":
        settings.refuse(kind, "prompts")
        return _qwen_reranker(model_name, settings, loader)
    settings.refuse("lm" if settings.name == "auto" else settings.name, "instruction")
    return _lm_reward(model_name, settings, loader)


def _kind(model_name: str | None, settings: ScorerSettings, loader: ModelLoader) -> ScorerKind:
    if settings.name in ("yes_no", "graded", "likelihood", "pmi"):
        return "lm"
    if settings.name in ("head", "cross_encoder", "qwen3_reranker"):
        return settings.name
    if loader.engine == "http":
        named = ", ".join(name for name in get_args(ScorerName) if name != "auto")
        raise ConfigError(f"with engine 'http' the model's files are not at hand: say its scorer, one of {named}")
    if model_name is None:
        return "lm"
    from searchrl.models.presets import language_model_folder

    return detect_scorer(model_name, language_model_folder(model_name))


def _classifier(model_name: str | None, kind: ScorerKind, loader: ModelLoader) -> RewardModel:
    if loader.engine == "http":
        from searchrl.reward.checkpoint import CheckpointedReward
        from searchrl.reward.http_rerank import HttpReranker

        served = HttpReranker(loader.url, model_name or loader.config.engine_model, **loader.client)
        loader.opened(served, served.close)
        if loader.answers is None:
            return served
        kept = CheckpointedReward(served, loader.answers, keeps_answered=True)
        return loader.opened(kept, kept.close)
    if loader.engine == "vllm":
        raise ConfigError(f"scorer {kind!r} does not run in-process on vLLM: start a vLLM server and use engine='http'")
    if model_name is None:
        raise ConfigError(f"scorer {kind!r} needs model_name: a hub name or a folder")
    choice = loader.format(has_int8=kind != "cross_encoder")
    if kind == "cross_encoder":
        from searchrl.reward.cross_encoder import CrossEncoderReward

        return CrossEncoderReward(model_name, choice.device, choice.dtype)
    from searchrl.reward.head import HeadReward

    return HeadReward(model_name, choice.device, choice.dtype)


def _qwen_reranker(model_name: str | None, settings: ScorerSettings, loader: ModelLoader) -> RewardModel:
    from searchrl.reward.qwen_reranker import INSTRUCTION, QwenReranker, context_tokens

    if model_name is None and loader.engine != "http":
        raise ConfigError("scorer 'qwen3_reranker' needs model_name, such as Qwen/Qwen3-Reranker-0.6B")
    instruction = INSTRUCTION if settings.instruction is None else settings.instruction
    words = settings.max_key_words or KEY_WORDS["qwen3_reranker"]
    lm = loader.language_model(model_name, "likelihoods", context_tokens=context_tokens(instruction, words))
    return QwenReranker(lm, instruction, words)


def _lm_reward(model_name: str | None, settings: ScorerSettings, loader: ModelLoader) -> RewardModel:
    from searchrl.models.prompts import load_prompts
    from searchrl.reward.lm import LMReward

    prompts = load_prompts(settings.prompts)
    named = settings.name
    method = named if named in ("yes_no", "graded", "likelihood", "pmi") else loader.judging_method(model_name)
    words = settings.max_key_words or KEY_WORDS["lm"]
    lm = loader.language_model(
        model_name,
        "likelihoods" if method in ("likelihood", "pmi") else "chat",
        context_tokens=max(CONTEXT_TOKENS, TOKENS_PER_WORD * words),
    )
    return LMReward(lm, method, prompts, words)
