"""From settings to working parts: dataset, models, indexes, the game, and the search graphs of each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchrl.config import DataConfig, EngineConfig, GameConfig, ModelConfig
from searchrl.data.dataset import Corpus, Dataset, QuerySet, Split
from searchrl.data.load import load_dataset
from searchrl.data.query_bank import load_query_bank_for
from searchrl.data.splits import train_from_dev
from searchrl.device import DeviceChoice, processor, with_dtype
from searchrl.errors import ConfigError, DataError
from searchrl.models.loader import ModelLoader
from searchrl.threads import lazy

if TYPE_CHECKING:
    from searchrl.env.game import Game, Rules
    from searchrl.env.graph import SearchGraph
    from searchrl.env.search_env import SearchEnv
    from searchrl.models.encoder import Encoder
    from searchrl.models.language_model import Engine
    from searchrl.models.lm_cache import CachedLanguageModel
    from searchrl.models.loader import Use
    from searchrl.models.prompts import Prompts
    from searchrl.models.transformers_lm import TransformersLM
    from searchrl.reformulate.reformulator import Reformulator
    from searchrl.retrieval.dense import TextEncoder
    from searchrl.retrieval.retriever import Retriever
    from searchrl.reward.lm import Method
    from searchrl.reward.reward_model import RewardModel

_SHARED = ("loader", "encoder", "prompts", "reward_model")
"""Parts of a workbench that do not depend on its collection."""


@dataclass(frozen=True)
class Workbench:
    """Everything a command works with. Parts are made when first asked for."""

    data: DataConfig
    models: ModelConfig
    game_config: GameConfig
    seed: int = 42
    show_progress: bool = True

    @lazy
    def loader(self) -> ModelLoader:
        """What makes language models, and closes them."""
        return make_loader(self.models, self.show_progress)

    @property
    def device(self) -> DeviceChoice:
        """Where models run."""
        return self.loader.device

    @property
    def cache(self) -> Path | None:
        """The folder for whatever can be computed again; None with --no-cache."""
        return self.loader.cache

    @lazy
    def dataset(self) -> Dataset:
        """Documents and queries."""
        data = self.data
        if len(data.datasets) > 1:
            raise ConfigError(f"--dataset {data.dataset}: only train.py works with several at once; name one of them")
        seed = self.seed if data.split_seed is None else data.split_seed
        dataset = load_dataset(data.dataset, data_dir=data.data_dir, mirror=data.mirror, seed=seed)
        return train_from_dev(dataset, seed) if data.train_from_dev and "train" not in dataset.splits else dataset

    @lazy
    def encoder(self) -> Encoder:
        """The sentence encoder."""
        return make_encoder(self.models, self.device)

    @lazy
    def retriever(self) -> Retriever:
        """Both indexes of the corpus behind one search."""
        return make_retriever(self.dataset.corpus, self.encoder, self.game_config, self.cache, self.show_progress)

    @property
    def lm_name(self) -> str | None:
        """The language model as ``ModelLoader`` takes it; None for the device's, or the one that is served."""
        return lm_name(self.models)

    @property
    def writer(self) -> CachedLanguageModel:
        """The same that rewrites queries, or asks them; in a finer numeric format where judging needs less."""
        return make_writer(self.models, self.loader)

    @property
    def language_models(self) -> Mapping[str, Engine]:
        """What the language model does in this game, and what runs it: once, where one format does for all."""
        game = self.game_config
        uses: dict[str, Use] = {}
        if game.reward == "lm":
            uses["judges"] = _judging_use(self.judging_method)
        if "lm" in game.reformulator:
            uses["writes"] = "chat"
        engines = {does: self.loader.backend(self.lm_name, use, stop_at_newline=True) for does, use in uses.items()}
        if len(engines) == 2 and engines["judges"] is engines["writes"]:
            return {"judges and writes": engines["writes"]}
        return engines

    @property
    def computed(self) -> dict[str, Any]:
        """What results depend on beside settings and data: the processor, and each model with its numeric format."""
        models = {"encodes": f"{self.encoder.name} in {self.encoder.dtype}"}
        models |= {does: lm.description.partition(" (")[0] for does, lm in self.language_models.items()}
        if self.game_config.reward == "head" and self.reward_model is not None:
            models["judges"] = f"{self.models.reward_model} in {with_dtype(self.device, self.models.dtype).dtype}"
        return {"processor": processor(), "models": models}

    @property
    def transformers_lm(self) -> TransformersLM:
        """The language model itself, which runs in this process, for whoever measures it."""
        from searchrl.models.transformers_lm import TransformersLM

        lm = next(iter(self.language_models.values()))
        if not isinstance(lm, TransformersLM):
            raise ConfigError(f"{lm.name}: only a language model that transformers runs can be measured")
        return lm

    @property
    def judging_method(self) -> Method:
        """How the language model judges. Raises ConfigError where that depends on a size its server does not tell."""
        return _judging_method(self.models, self.loader)

    @lazy
    def prompts(self) -> Prompts:
        """What the language model is asked, the user's changes included."""
        from searchrl.models.prompts import load_prompts

        return load_prompts(self.models.prompts)

    @lazy
    def reward_model(self) -> RewardModel | None:
        """Who judges documents while the agent searches; None when only people judge, after the fact."""
        return make_reward_model(self.models, self.game_config, self.loader)

    @lazy
    def reformulator(self) -> Reformulator:
        """Who rewrites queries."""
        return make_reformulator(self.game_config, self.models, self.loader, self.dataset.corpus, self.retriever)

    @lazy
    def game(self) -> Game:
        """The rules with the parts they are played with."""
        from searchrl.env.game import Game

        rules = make_rules(self.game_config)
        return Game(self.dataset.corpus, self.retriever, self.reformulator, self.reward_model, rules)

    @property
    def reward_source(self) -> str:
        """Which of a graph's gains pays the reward."""
        if self.game_config.reward == "qrels":
            return "qrels"
        return "reward" if self.game_config.ideal == "pooled" else "reward_list"

    def check(self, splits: Sequence[Split]) -> None:
        """Look up the splits and load the models, so that whatever is missing is said before anything slow begins."""
        for split in splits:
            self.queries(split)
        _ = self.prompts, self.encoder, self.reward_model
        for lm in self.language_models.values():
            _ = lm.fingerprint
        if "lm" in self.game_config.reformulator:
            _ = self.writer  # and its golden check; the judge's came with the reward model

    def beside(self, dataset: str) -> Workbench:
        """Another collection with the models that were made here so far; closing this one closes them for both."""
        other, _ = replace(self, data=replace(self.data, dataset=dataset)), self.loader
        other.__dict__.update({name: part for name, part in self.__dict__.items() if name in _SHARED})
        return other

    def close(self) -> None:
        """Close the language model and its cache, if they were opened."""
        if "loader" in self.__dict__:
            self.loader.close()

    def queries(self, split: Split) -> QuerySet:
        """The queries of one split; a query bank is train and, where the collection has none, dev as well.

        Raises DataError saying which splits there are.
        """
        if self.data.query_bank and self.is_generated(split):
            return self._from_bank(self.data.query_bank, split)
        found = self.dataset.splits.get(split)
        if found is None or not len(found):
            there = ", ".join(self.dataset.splits) or "none"
            hint = (
                "; train on another dataset and evaluate here (transfer), on generated queries (--query-bank), or on "
                "half of the dev queries (--train-from-dev)"
                if split == "train"
                else ""
            )
            raise DataError(
                f"dataset {self.dataset.name!r} has no {split} queries with judgments (it has: {there}){hint}"
            )
        return found

    def is_generated(self, split: Split) -> bool:
        """Whether the queries of a split come from the bank, and their judgments from nobody."""
        if self.data.query_bank is None:
            return False
        return split == "train" or (split == "dev" and "dev" not in self.dataset.splits)

    def _from_bank(self, path: Path, split: Split) -> QuerySet:
        bank = load_query_bank_for(path, self.dataset.corpus)
        if "dev" in self.dataset.splits:
            return bank.query_set()
        return bank.splits(self.seed if self.data.split_seed is None else self.data.split_seed)[split]

    def graph(self, split: Split, limit: int = 0) -> SearchGraph:
        """The search graph of one split (its first ``limit`` queries, 0 for all): stored, or built with a bar."""
        from searchrl.env.build import GraphSettings
        from searchrl.env.obtain import BuildBar, obtain_graph

        queries, game = self.queries(split), self.game  # whatever has a bar of its own goes first
        if limit:
            queries = queries.take(limit)
        with BuildBar(f"search graph, {split}", self.show_progress) as bar:
            return obtain_graph(game, queries, GraphSettings(), self.cache, bar)


def make_loader(models: ModelConfig, show_progress: bool = False) -> ModelLoader:
    """What makes language models, and closes them."""
    return ModelLoader(
        models.serving,
        device=models.device,
        dtype=models.dtype,
        cache=models.cache,
        show_progress=show_progress,
    )


def make_encoder(models: ModelConfig, device: DeviceChoice) -> Encoder:
    """The sentence encoder."""
    from searchrl.models.encoder import Encoder

    return Encoder(models.encoder, device.device, dtype=models.encoder_dtype)


def make_retriever(
    corpus: Corpus, encoder: TextEncoder, game: GameConfig, cache: Path | None, show_progress: bool = False
) -> Retriever:
    """Both indexes of a corpus behind one search; the dense one is stored in ``cache``."""
    from searchrl.retrieval.approximate import build_approximate_index, import_faiss
    from searchrl.retrieval.dense import build_dense_index
    from searchrl.retrieval.lexical import LexicalIndex
    from searchrl.retrieval.retriever import LEXICAL_SHARE, Retriever

    large = 0 < game.ann_above < len(corpus)
    if large:
        import_faiss()  # what is missing is said before hours of encoding
    dense = build_dense_index(corpus, encoder, cache, show_progress)
    approximate = build_approximate_index(corpus, encoder, dense, cache) if large else None
    return Retriever(encoder, dense, LexicalIndex(corpus), LEXICAL_SHARE[game.retriever], game.depth, approximate)


def make_writer(models: ModelConfig, loader: ModelLoader) -> CachedLanguageModel:
    """The language model that rewrites queries, or asks them; in a finer numeric format where judging needs less."""
    return loader.language_model(lm_name(models), "chat", stop_at_newline=True)


def make_reward_model(models: ModelConfig, game: GameConfig, loader: ModelLoader) -> RewardModel | None:
    """What scores documents while the agent searches; None when only people judge, after the fact.

    Raises ModelError where it cannot be had, ConfigError where its settings do not go together, EngineError where the
    language model's server does not answer, or it and transformers do not agree on the golden pairs.
    """
    if game.reward == "head" or (game.reward == "qrels" and models.reward_model and game.rerank_depth):
        from searchrl.reward.head import HeadReward

        if not models.reward_model:
            raise ConfigError("reward head needs reward_model: a sequence-classification model, name or folder")
        choice = with_dtype(loader.device, models.dtype)
        return HeadReward(models.reward_model, choice.device, choice.dtype)
    if game.reward == "qrels" and game.rerank_depth == 0:
        return None
    from searchrl.models.prompts import load_prompts
    from searchrl.reward.lm import LMReward

    method = _judging_method(models, loader)
    lm = loader.language_model(lm_name(models), _judging_use(method), stop_at_newline=True)
    return LMReward(lm, method, load_prompts(models.prompts))


def make_reformulator(
    game: GameConfig, models: ModelConfig, loader: ModelLoader, corpus: Corpus, retriever: Retriever
) -> Reformulator:
    """What rewrites queries over one corpus; they are encoded by the retriever's encoder."""
    from searchrl.reformulate.feedback import FeedbackReformulator

    feedback = FeedbackReformulator(retriever.dense, retriever.lexical)
    if game.reformulator == "feedback":
        return feedback
    from searchrl.models.prompts import load_prompts
    from searchrl.reformulate.lm import LMReformulator
    from searchrl.reformulate.reformulator import LMAndFeedback

    lm, prompts = make_writer(models, loader), load_prompts(models.prompts)
    encoder: Any = retriever.encoder  # asked without the arguments that ``Encoder`` has defaults for
    by_lm = LMReformulator(lm, encoder, retriever.lexical, corpus, prompts)
    return by_lm if game.reformulator == "lm" else LMAndFeedback(by_lm, feedback)


def make_rules(game: GameConfig) -> Rules:
    """The rules of an episode."""
    from searchrl.env.game import Rules

    return Rules(
        max_steps=game.max_steps,
        auto_search=game.auto_search,
        fusion=game.fusion,
        anchor=game.anchor,
        rerank_depth=game.rerank_depth,
        rerank_weight=game.rerank_weight,
    )


def lm_name(models: ModelConfig) -> str | None:
    """The language model as ``ModelLoader`` takes it; None for the device's, or the one that is served."""
    return None if models.lm == "auto" else models.lm


def _judging_method(models: ModelConfig, loader: ModelLoader) -> Method:
    """How the language model judges. Raises ConfigError where that depends on a size its server does not tell."""
    return models.judge if models.judge != "auto" else loader.judging_method(lm_name(models))


def _judging_use(method: Method) -> Use:
    return "likelihoods" if method == "likelihood" else "chat"


def make_env(
    dataset: str = "pydocs", split: Split = "train", render_mode: str | None = None, **settings: Any
) -> SearchEnv:
    """Entry point of ``gymnasium.make("searchrl/Search-v0", dataset=..., split=..., reward=..., max_steps=...)``.

    ``settings`` are fields of ``DataConfig``, ``ModelConfig``, ``EngineConfig`` and ``GameConfig``. The reward is
    human judgments unless ``reward="lm"`` or ``"head"`` asks for a model, so that the default environment needs no
    language model.
    """
    from searchrl.env.batched import RewardRules
    from searchrl.env.search_env import SearchEnv

    settings.setdefault("reward", "qrels")
    chosen = {kind: {} for kind in (DataConfig, ModelConfig, EngineConfig, GameConfig)}  # type: ignore[var-annotated]
    for name, value in settings.items():
        owner = next((kind for kind in chosen if name in kind.__dataclass_fields__), None)
        if owner is None:
            from searchrl.errors import nearest

            names = [n for kind in chosen for n in kind.__dataclass_fields__]
            raise ConfigError(f"searchrl/Search-v0: unknown setting {name!r}; {nearest(name, names)}")
        chosen[owner][name] = value
    game = GameConfig(**chosen[GameConfig])
    models = ModelConfig(**{"serving": EngineConfig(**chosen[EngineConfig]), **chosen[ModelConfig]})
    bench = Workbench(DataConfig(dataset=dataset, **chosen[DataConfig]), models, game, show_progress=False)
    reward = RewardRules(bench.reward_source, game.step_penalty, game.reward_baseline)
    return SearchEnv(bench.game, bench.queries(split), reward, use_mask=game.mask, render_mode=render_mode)
