"""From a model's name to its reward model, told from the files in its folder where nothing else is said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from searchrl.config import ScorerName
from searchrl.errors import ConfigError, ModelError, nearest
from searchrl.files import load_json
from searchrl.models.folders import GENERATIVE
from searchrl.models.loader import CONTEXT_TOKENS, ModelLoader
from searchrl.reward.calibrated import CalibratedReward, Recipe, read_recipe
from searchrl.reward.lm import Method

if TYPE_CHECKING:
    from searchrl.reward.reward_model import RewardModel

ScorerKind = Literal["lm", "head", "cross_encoder", "qwen3_reranker"]

QWEN_RERANKER_SIGN = "Judge whether the Document meets the requirements"
"""From the one form that Qwen3-Reranker is asked in; its fine-tuned kin carry it in their chat templates."""

KEY_WORDS = {"lm": 80, "qwen3_reranker": 400}
"""Words of a key that language models read unless told otherwise."""

TOKENS_PER_WORD = 3
"""At most, of prose; a word of the cut counts 8 characters."""


@dataclass(frozen=True)
class ScorerSettings:
    """How a model scores.

    name: ``auto`` looks into the model's folder; a language model then judges by likelihood below about 1B parameters,
    else by grades. instruction: ``qwen3_reranker`` only. max_key_words: language models only; None for ``KEY_WORDS``.
    prompts: TOML file laid over ``searchrl/prompts.toml``. llm_template: ``head`` only, see ``HeadReward``.

    Raises ConfigError on an unknown name or an impossible limit.
    """

    name: ScorerName = "auto"
    instruction: str | None = None
    max_key_words: int | None = None
    prompts: Path | None = None
    llm_template: str | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(ScorerName):
            raise ConfigError(f"unknown scorer {self.name!r}: {nearest(str(self.name), get_args(ScorerName))}")
        if self.max_key_words is not None and self.max_key_words < 1:
            raise ConfigError(f"max_key_words {self.max_key_words}: must be at least 1")

    def refuse(self, kind: str, *settings: str) -> None:
        """Raise ConfigError where any of ``settings`` was given, which this kind of scorer would ignore."""
        for setting in settings:
            if getattr(self, setting) is not None:
                raise ConfigError(f"{setting} is not a setting of the scorer {kind!r}: leave it out")


def make_reward(
    model_name: str | None = None, settings: ScorerSettings | None = None, loader: ModelLoader | None = None
) -> RewardModel:
    """The reward model behind a name. None: the device's language model, fitted for judging if it is the embedded one,
    or the one model that a server serves.

    It remembers what it has scored, where the loader has a cache: language models by their answers, others by scores.

    Raises ConfigError where settings, engine and model do not go together, ModelError where the model is not available.
    """
    settings, loader = settings or ScorerSettings(), loader or ModelLoader()
    kind = _kind(model_name, settings, loader)
    if kind in ("head", "cross_encoder"):
        settings.refuse(kind, "instruction", "max_key_words", "prompts")
        if kind == "cross_encoder" or loader.engine == "http":
            settings.refuse(kind, "llm_template")
        reward = _remembering(_classifier(model_name, kind, loader, settings.llm_template), loader)
        return calibrated(reward, recipe_of(model_name, loader), kind)
    settings.refuse(kind, "llm_template")
    if kind == "qwen3_reranker":
        return _qwen_reranker(model_name, settings, loader)
    settings.refuse("lm" if settings.name == "auto" else settings.name, "instruction")
    return _lm_reward(loader.reward_model_name(model_name, settings.name), settings, loader)


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
    from searchrl.models.folders import language_model_folder

    return detect_kind(model_name, language_model_folder(model_name))


def _classifier(model_name: str | None, kind: ScorerKind, loader: ModelLoader, template: str | None) -> RewardModel:
    if loader.engine == "http":
        from searchrl.reward.head import HttpReranker

        served = HttpReranker(loader.url, model_name or loader.config.engine_model, **loader.client)
        return loader.opened(served, served.close)
    if loader.engine == "vllm":
        raise ConfigError(f"scorer {kind!r} does not run in-process on vLLM: start a vLLM server and use engine='http'")
    if model_name is None:
        raise ConfigError(f"scorer {kind!r} needs model_name: a hub name or a folder")
    choice = loader.format(has_int8=kind != "cross_encoder")
    if kind == "cross_encoder":
        from searchrl.reward.head import CrossEncoderReward

        return CrossEncoderReward(model_name, choice.device, choice.dtype)
    from searchrl.reward.head import HeadReward

    return HeadReward(model_name, choice.device, choice.dtype, template=template)


def _remembering(reward: RewardModel, loader: ModelLoader) -> RewardModel:
    """The reward model behind the loader's cache, where there is one."""
    if loader.answers is None:
        return reward
    from searchrl.reward.reward_model import CachedReward

    kept = CachedReward(reward, loader.answers, keeps_answered=loader.engine == "http")
    return loader.opened(kept, kept.close)


def _qwen_reranker(model_name: str | None, settings: ScorerSettings, loader: ModelLoader) -> RewardModel:
    from searchrl.models.prompts import load_prompts
    from searchrl.reward.lm import QwenReranker, context_tokens

    if model_name is None and loader.engine != "http":
        raise ConfigError("scorer 'qwen3_reranker' needs model_name, such as Qwen/Qwen3-Reranker-0.6B")
    prompts = load_prompts(settings.prompts)
    if settings.instruction is not None:
        prompts = replace(prompts, reranker_instruction=settings.instruction)
    words = settings.max_key_words or KEY_WORDS["qwen3_reranker"]
    lm = loader.language_model(model_name, "likelihoods", context_tokens=context_tokens(prompts, words))
    return QwenReranker(lm, prompts, words)


def _lm_reward(model_name: str | None, settings: ScorerSettings, loader: ModelLoader) -> RewardModel:
    from searchrl.models.prompts import load_prompts
    from searchrl.reward.lm import LMReward

    prompts = load_prompts(settings.prompts)
    recipe = recipe_of(model_name, loader)
    method = lm_method(settings.name, model_name, loader, recipe)
    words = settings.max_key_words or (recipe and recipe.max_key_words) or KEY_WORDS["lm"]
    lm = loader.language_model(
        model_name,
        "likelihoods" if method in ("likelihood", "pmi") else "chat",
        context_tokens=max(CONTEXT_TOKENS, TOKENS_PER_WORD * words),
    )
    return calibrated(LMReward(lm, method, prompts, words), recipe, method)


def recipe_of(model_name: str | None, loader: ModelLoader) -> Recipe | None:
    """How a fitted model says that it scores; None of others, and of those behind a server."""
    if model_name is None or loader.engine == "http":
        return None
    from searchrl.models.folders import language_model_folder

    return read_recipe(language_model_folder(model_name))


def lm_method(name: str, model_name: str | None, loader: ModelLoader, recipe: Recipe | None) -> Method:
    """How a language model judges: as asked, else as it was fitted, else as suits its size."""
    for method in (name, recipe.scorer if recipe else ""):
        if method in get_args(Method):
            return cast(Method, method)
    return loader.judging_method(model_name)


def calibrated(reward: RewardModel, recipe: Recipe | None, scorer: str) -> RewardModel:
    """The reward model as it was fitted: where it scores as it did then, by probabilities."""
    if recipe is None or recipe.calibration is None or recipe.scorer != scorer:
        return reward
    return CalibratedReward(reward, recipe.calibration)


def detect_kind(name: str, folder: Path) -> ScorerKind:
    """What kind of reward model lies in ``folder``; ``name`` is how the user called it.

    A classifier is a cross-encoder where sentence-transformers left its mark, else a reward head; a causal language
    model is Qwen3-Reranker where name or chat template say so. Raises ModelError on anything else.
    """
    config = _read(name, folder / "config.json")
    listed = config.get("architectures")
    kinds = [str(kind) for kind in listed] if isinstance(listed, list) else []
    if any(kind.endswith(GENERATIVE) for kind in kinds):
        asked = "qwen3-reranker" in f"{name} {folder.name}".lower() or QWEN_RERANKER_SIGN in _chat_template(folder)
        return "qwen3_reranker" if asked else "cross_encoder" if _is_cross_encoder(name, folder, config) else "lm"
    if _is_cross_encoder(name, folder, config):
        return "cross_encoder"
    if any(kind.endswith("ForSequenceClassification") for kind in kinds):
        return "head"
    kind = " or ".join(kinds) or config.get("model_type") or "model of an unknown kind"
    raise ModelError(
        f"{name} is a {kind}, which gives no relevance: give a causal language model, a reward model with a head "
        "(ForSequenceClassification) or a cross-encoder; if it is one of these all the same, say which: scorer=..."
    )


def _is_cross_encoder(name: str, folder: Path, config: dict[str, Any]) -> bool:
    """Whether sentence-transformers says so: in a file of its own, or, before that was written, in ``config.json``."""
    file = folder / "config_sentence_transformers.json"
    if file.exists():
        return bool(_read(name, file).get("model_type") == "CrossEncoder")
    return "sbert_ce_default_activation_function" in config or "sentence_transformers" in config


def _chat_template(folder: Path) -> str:
    for file in ("chat_template.jinja", "tokenizer_config.json"):
        if (folder / file).is_file():
            return (folder / file).read_text(encoding="utf-8", errors="replace")
    return ""


def _read(name: str, file: Path) -> dict[str, Any]:
    try:
        content = load_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{name} cannot be used as a reward model: {file} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{name} cannot be used as a reward model: {file} is not a JSON object")
    return content
