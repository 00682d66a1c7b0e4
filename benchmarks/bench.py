"""The parts of one experiment, each made when first asked for, so that each can be measured by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from searchrl.config import DataConfig, GameConfig, ModelConfig
from searchrl.data.dataset import Dataset, QuerySet, Split
from searchrl.device import DeviceChoice
from searchrl.env.game import Game
from searchrl.errors import ConfigError
from searchrl.experiment.parts import Models, make_reformulator, make_retriever, make_rules, open_models
from searchrl.experiment.prepare import Collection, read_collection
from searchrl.models.encoder import Encoder
from searchrl.models.prompts import Prompts, load_prompts
from searchrl.models.transformers_lm import TransformersLM
from searchrl.retrieval.retriever import Retriever
from searchrl.reward.reward_model import RewardModel
from searchrl.threads import lazy


@dataclass(frozen=True)
class Bench:
    """Settings, and what they make."""

    data: DataConfig
    settings: ModelConfig
    game_config: GameConfig
    seed: int = 42
    show_progress: bool = False

    @lazy
    def collection(self) -> Collection:
        """Documents and queries."""
        return read_collection(self.data, self.seed)

    @property
    def dataset(self) -> Dataset:
        """The same without generated queries."""
        return self.collection.dataset

    @lazy
    def models(self) -> Models:
        """All models, to be closed."""
        return open_models(self.settings, self.game_config, self.show_progress)

    @property
    def device(self) -> DeviceChoice:
        """Where models run."""
        return self.models.device

    @property
    def cache(self) -> Path | None:
        """Where indexes are kept."""
        return self.models.cache

    @property
    def encoder(self) -> Encoder:
        """The sentence encoder."""
        return self.models.encoder

    @property
    def reward_model(self) -> RewardModel | None:
        """What scores documents while the agent searches."""
        return self.models.reward_model

    @lazy
    def prompts(self) -> Prompts:
        """What the language model is asked."""
        return load_prompts(self.settings.prompts)

    @property
    def transformers_lm(self) -> TransformersLM:
        """The language model that runs in this process."""
        lm = next(iter(self.models.language_models.values()))
        if not isinstance(lm, TransformersLM):
            raise ConfigError(f"{lm.name}: only a language model that transformers runs can be measured")
        return lm

    @lazy
    def retriever(self) -> Retriever:
        """Both indexes of the corpus."""
        game = self.game_config
        return make_retriever(
            self.dataset.corpus,
            self.encoder,
            self.cache,
            first_stage=game.retriever,
            depth=game.depth,
            ann_above=game.ann_above,
            show_progress=self.show_progress,
        )

    @lazy
    def game(self) -> Game:
        """The rules with the parts they are played with."""
        corpus, models, config = self.dataset.corpus, self.models, self.game_config
        reformulator = make_reformulator(config, self.settings, models.loader, corpus, self.retriever)
        return Game(corpus, self.retriever, reformulator, models.reward_model, make_rules(config))

    def queries(self, split: Split) -> QuerySet:
        """The queries of one split."""
        return self.collection.queries(split)

    def close(self) -> None:
        """Close the models, if they were made."""
        if "models" in self.__dict__:
            self.models.close()
