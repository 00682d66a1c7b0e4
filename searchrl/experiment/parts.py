"""From settings to working parts; the models are made once, for all collections of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchrl.config import GameConfig, IndexConfig, ModelConfig, ReformulatorName, RetrieverName
from searchrl.data.dataset import Corpus
from searchrl.device import DeviceChoice, processor, with_dtype
from searchrl.errors import ConfigError
from searchrl.extras import require
from searchrl.models.loader import ModelLoader
from searchrl.models.prompts import load_prompts

if TYPE_CHECKING:
    from searchrl.env.game import Game, Rules
    from searchrl.env.graph import RewardRules
    from searchrl.models.encoder import Encoder
    from searchrl.models.language_model import Engine
    from searchrl.models.lm_cache import CachedLanguageModel
    from searchrl.models.loader import Use
    from searchrl.reformulate.reformulator import Reformulator
    from searchrl.retrieval.dense import TextEncoder
    from searchrl.retrieval.retriever import Retriever
    from searchrl.reward.lm import Method
    from searchrl.reward.reward_model import RewardModel


def make_loader(models: ModelConfig, show_progress: bool = False, device: str | None = None) -> ModelLoader:
    """What makes language models, and closes them. device: another than that of the settings. Raises ConfigError where
    the settings name Ray or Milvus and its package is missing: at once, whether or not the cache spares its use.
    """
    if models.indexing.index == "milvus":
        require("pymilvus", "milvus")
    if models.cluster.ray:
        require("ray", "ray")
    return ModelLoader(
        models.serving,
        device=device or models.device,
        dtype=models.dtype,
        cache=models.cache,
        show_progress=show_progress,
        cluster=models.cluster,
    )


def make_encoder(models: ModelConfig, device: DeviceChoice) -> Encoder:
    """The sentence encoder."""
    from searchrl.models.encoder import Encoder

    if models.cluster.ray:
        from searchrl.models.ray_models import RayEncoder

        return RayEncoder(models.encoder, device.device, dtype=models.encoder_dtype, config=models.cluster)
    return Encoder(models.encoder, device.device, dtype=models.encoder_dtype)


def make_retriever(
    corpus: Corpus,
    encoder: TextEncoder,
    cache: Path | None,
    *,
    first_stage: RetrieverName = "dense",
    depth: int = 100,
    ann_above: int = 0,
    indexing: IndexConfig | None = None,
    show_progress: bool = False,
) -> Retriever:
    """A corpus in its index, behind one search.

    first_stage: what a fresh query uses. depth: documents in a ranking. The others: see ``build_index``.
    """
    from searchrl.retrieval.build import build_index
    from searchrl.retrieval.retriever import LEXICAL_SHARE, Retriever

    index = build_index(corpus, encoder, cache, indexing or IndexConfig(), ann_above, show_progress)
    return Retriever(encoder, index, LEXICAL_SHARE[first_stage], depth)


def make_writer(models: ModelConfig, loader: ModelLoader) -> CachedLanguageModel:
    """The language model that rewrites queries, or asks them; in a finer numeric format where judging needs less."""
    return loader.language_model(lm_name(models), "chat", stop_at_newline=True)


def make_reward_model(models: ModelConfig, game: GameConfig, loader: ModelLoader) -> RewardModel | None:
    """What scores documents while the agent searches; None when only people judge, after the fact.

    Raises ModelError where it cannot be had, ConfigError where its settings do not go together, EngineError where the
    language model's server does not answer, or it and transformers do not agree on the golden pairs.
    """
    if game.judge_depth == 0:
        return None
    if judged_by_head(models, game):
        from searchrl.reward.head import HeadReward

        if not models.reward_model:
            raise ConfigError("reward head needs reward_model: a sequence-classification model, name or folder")
        choice = with_dtype(loader.device, models.dtype)
        return HeadReward(models.reward_model, choice.device, choice.dtype)
    return make_lm_reward(models, loader)


def judged_by_head(models: ModelConfig, game: GameConfig) -> bool:
    """Whether a reward head judges, not a language model."""
    return game.reward == "head" or (game.reward == "qrels" and models.reward_model is not None)


def make_lm_reward(models: ModelConfig, loader: ModelLoader) -> RewardModel:
    """The language model as reward model, compared with the golden model first where one is named."""
    from searchrl.reward.lm import LMReward
    from searchrl.reward.registry import KEY_WORDS, calibrated, recipe_of

    name, method = judge_name(models, loader), judging_method(models, loader)
    lm = loader.language_model(name, judging_use(method), stop_at_newline=True)
    recipe = recipe_of(name, loader)
    words = (recipe and recipe.max_key_words) or KEY_WORDS["lm"]
    return calibrated(LMReward(lm, method, load_prompts(models.prompts), words), recipe, method)


def make_reformulator(
    game: GameConfig, models: ModelConfig, loader: ModelLoader, corpus: Corpus, retriever: Retriever
) -> Reformulator:
    """What rewrites queries over one corpus; they are encoded by the retriever's encoder."""
    from searchrl.reformulate.reformulator import FeedbackReformulator

    feedback = FeedbackReformulator(retriever.index)
    name = reformulator_name(game, models, loader)
    if name == "feedback":
        return feedback
    from searchrl.reformulate.lm import LMReformulator
    from searchrl.reformulate.reformulator import LMAndFeedback

    lm, prompts = make_writer(models, loader), load_prompts(models.prompts)
    by_lm = LMReformulator(lm, retriever, corpus, prompts)
    return by_lm if name == "lm" else LMAndFeedback(by_lm, feedback)


def reformulator_name(game: GameConfig, models: ModelConfig, loader: ModelLoader) -> ReformulatorName:
    """Who rewrites queries, ``auto`` decided by the size of the language model: small ones make queries worse."""
    if game.reformulator != "auto":
        return game.reformulator
    return "feedback" if loader.is_small(lm_name(models)) else "lm+feedback"


def make_rules(game: GameConfig) -> Rules:
    """The rules of an episode."""
    from searchrl.env.game import Rules

    return Rules(
        max_steps=game.max_steps,
        auto_search=game.auto_search,
        fusion=game.fusion,
        anchor=game.anchor,
        judge_depth=game.judge_depth,
        trust=game.trust if game.judge_depth else (0.0,),
    )


def lm_name(models: ModelConfig) -> str | None:
    """The language model as ``ModelLoader`` takes it; None for the device's, or the one that is served."""
    return None if models.lm == "auto" else models.lm


def judge_name(models: ModelConfig, loader: ModelLoader) -> str | None:
    """The language model that judges: the one that is named, else the device's as it was fitted for judging."""
    return loader.reward_model_name(lm_name(models), models.judge)


def make_game(game: GameConfig, corpus: Corpus, models: Models, show_progress: bool = False) -> Game:
    """The game over a corpus, which is encoded for it, or its stored index taken."""
    from searchrl.env.game import Game

    retriever = make_retriever(
        corpus,
        models.encoder,
        models.cache,
        first_stage=game.retriever,
        depth=game.depth,
        ann_above=game.ann_above,
        indexing=models.settings.indexing,
        show_progress=show_progress,
    )
    reformulator = make_reformulator(game, models.settings, models.writers, corpus, retriever)
    return Game(corpus, retriever, reformulator, models.reward_model, make_rules(game))


def reward_source(game: GameConfig) -> str:
    """Which of a graph's gains pays the reward."""
    if game.reward == "qrels":
        return "qrels"
    return "reward" if game.ideal == "pooled" else "reward_list"


def reward_rules(game: GameConfig) -> RewardRules:
    """How an episode is paid."""
    from searchrl.env.graph import RewardRules

    return RewardRules(reward_source(game), game.step_penalty, game.reward_baseline, judge_penalty=game.judge_penalty)


def judging_method(models: ModelConfig, loader: ModelLoader) -> Method:
    """How the language model judges. Raises ConfigError where that depends on a size its server does not tell."""
    from searchrl.reward.registry import lm_method, recipe_of

    name = judge_name(models, loader)
    return lm_method(models.judge, name, loader, recipe_of(name, loader))


def judging_use(method: Method) -> Use:
    """What a language model that judges so is asked for."""
    return "likelihoods" if method in ("likelihood", "pmi") else "chat"


@dataclass(frozen=True)
class Models:
    """Encoder, reward model and language models, to be closed; weights are loaded when they are first needed."""

    settings: ModelConfig
    loader: ModelLoader
    judges: ModelLoader
    """Makes the reward model; the same loader, unless that has a device of its own."""
    writers: ModelLoader
    """Makes the language model that rewrites queries; likewise."""
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
            dtype = with_dtype(self.judges.device, self.settings.dtype).dtype
            models["judges"] = f"{self.settings.reward_model} in {dtype}"
        return {"processor": processor(), "models": models}

    def close(self) -> None:
        """Close the language models and their cache; what was computed stays."""
        for loader in {self.loader, self.judges, self.writers}:
            loader.close()

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_models(settings: ModelConfig, game: GameConfig, show_progress: bool = False) -> Models:
    """Make the models that a game needs, and find out that they are there, before anything slow begins.

    Raises ConfigError where settings do not go together, ModelError where a model cannot be had, EngineError where a
    server does not answer, or does not agree with the golden model.
    """
    judges = game.judge_depth > 0 and not judged_by_head(settings, game)

    def writes(loader: ModelLoader) -> bool:
        return "lm" in reformulator_name(game, settings, loader)

    return _open(settings, lambda loader: make_reward_model(settings, game, loader), judges, writes, show_progress)


def open_writer(settings: ModelConfig, judges: bool, show_progress: bool = False) -> Models:
    """The same for a language model that writes and, if ``judges``, is the reward model too."""

    def reward(loader: ModelLoader) -> RewardModel | None:
        return make_lm_reward(settings, loader) if judges else None

    return _open(settings, reward, judges, lambda _: True, show_progress)


def _open(
    settings: ModelConfig,
    make_reward: Callable[[ModelLoader], RewardModel | None],
    judges: bool,
    writes_by: Callable[[ModelLoader], bool],
    show_progress: bool,
) -> Models:
    loader = make_loader(settings, show_progress)
    own = (settings.reward_device, settings.reformulator_device)
    judging, writing = (make_loader(settings, show_progress, device) if device else loader for device in own)
    try:
        writes = writes_by(writing)
        encoder = make_encoder(settings, loader.device)
        engines = _language_models(settings, judging if judges else None, writing if writes else None)
        reward_model = make_reward(judging)
        load_prompts(settings.prompts)
        for lm in engines.values():
            _ = lm.fingerprint
        if writes:
            make_writer(settings, writing)  # and its golden check; the judge's came with the reward model
    except BaseException:
        for one in {loader, judging, writing}:
            one.close()
        raise
    return Models(settings, loader, judging, writing, encoder, reward_model, engines)


def _language_models(
    settings: ModelConfig, judging: ModelLoader | None, writing: ModelLoader | None
) -> Mapping[str, Engine]:
    """What runs the language model, by what it does."""
    engines = {}
    if judging:
        use = judging_use(judging_method(settings, judging))
        engines["judges"] = judging.backend(judge_name(settings, judging), use, stop_at_newline=True)
    if writing:
        engines["writes"] = writing.backend(lm_name(settings), "chat", stop_at_newline=True)
    if len(engines) == 2 and engines["judges"] is engines["writes"]:
        return {"judges and writes": engines["writes"]}
    return engines
