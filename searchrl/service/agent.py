"""The trained agent on an indexed corpus: a checkpoint's policy, rules and models over that corpus's indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from searchrl.agent.checkpoint import PolicyCheckpoint, load_policy
from searchrl.config import ModelConfig, TrainConfig
from searchrl.config_file import from_json
from searchrl.data.dataset import Dataset
from searchrl.errors import CheckpointError
from searchrl.experiment.parts import Workbench
from searchrl.retrieval.dense import TextEncoder
from searchrl.service.corpora import Collection
from searchrl.service.play import Episode, Step, play_live
from searchrl.service.work import Answer, Asked, found
from searchrl.threads import lazy

if TYPE_CHECKING:
    from searchrl.env.game import Game
    from searchrl.models.loader import ModelLoader
    from searchrl.retrieval.retriever import Retriever
    from searchrl.reward.reward_model import RewardModel


class Agent:
    """A policy and what it was trained with; the models that its rules need are loaded when they are first needed.

    models: device, cache and engine of the service; everything else is as in training. encoder: the service's own.
    Raises CheckpointError where the file is no policy, or one for another encoder, ConfigError where its settings are
    not this version's, ModelError where a model of its cannot be had.
    """

    def __init__(self, path: Path, models: ModelConfig, encoder: TextEncoder) -> None:
        self.path = path
        self.checkpoint: PolicyCheckpoint = load_policy(path)
        trained = from_json(TrainConfig, self.checkpoint.config, str(path))
        if self.checkpoint.encoder != encoder.fingerprint:
            raise CheckpointError(
                f"{path}: made for the embeddings of encoder {self.checkpoint.encoder} ({trained.models.encoder}), the "
                f"service runs {encoder.fingerprint}; start it with --encoder {trained.models.encoder}"
            )
        serving = models.serving if models.serving.engine != "auto" else trained.models.serving
        lm = "auto" if serving.engine == "http" else trained.models.lm
        own = replace(trained.models, device=models.device, cache=models.cache, lm=lm, serving=serving)
        self._bench = Workbench(trained.data, own, trained.game, trained.learning.seed, show_progress=False)
        _ = self._bench.reward_model  # what is missing is said now
        self.retriever = trained.game.retriever
        """What the agent's first search uses."""
        self._games: WeakKeyDictionary[Collection, Game] = WeakKeyDictionary()

    @property
    def facts(self) -> dict[str, Any]:
        """What there is to say about it."""
        checkpoint = self.checkpoint
        return {"checkpoint": self.path.name, "trained_on": checkpoint.dataset, "episode": checkpoint.episode}

    def play(self, collection: Collection, texts: Sequence[str]) -> list[Episode]:
        """One episode a query. Raises CheckpointError where the policy reads other features than this version has."""
        return play_live(self.checkpoint.policy, self._game(collection), texts)

    def close(self) -> None:
        """Close the language model's cache, if it was opened."""
        self._bench.close()

    def _game(self, collection: Collection) -> Game:
        if collection not in self._games:
            bench = self._bench
            game = _CorpusBench(
                bench.data, bench.models, bench.game_config, bench.seed, False, shared=bench, collection=collection
            ).game
            if tuple(self.checkpoint.feature_names) != game.feature_names:
                raise CheckpointError(f"{self.path}: made for other features; train a policy with this version")
            self._games[collection] = game
        return self._games[collection]


@dataclass(frozen=True)
class _CorpusBench(Workbench):
    """The training's parts over another corpus; models are shared by all corpora."""

    shared: Workbench = field(kw_only=True)
    collection: Collection = field(kw_only=True)

    @lazy
    def dataset(self) -> Dataset:
        return Dataset(self.collection.name, self.collection.corpus, {})

    @lazy
    def encoder(self) -> Any:
        return self.collection.encoder

    @lazy
    def retriever(self) -> Retriever:
        return self.collection.retriever(self.game_config.retriever, self.game_config.depth)

    @lazy
    def loader(self) -> ModelLoader:
        return self.shared.loader

    @lazy
    def reward_model(self) -> RewardModel | None:
        return self.shared.reward_model


@dataclass(frozen=True)
class PlayAgent:
    """Queries to the documents that the agent finds in a corpus, and what it did on the way."""

    agent: Agent
    collection: Collection

    def __call__(self, asked: Sequence[Asked]) -> list[Answer]:
        """One answer a query."""
        episodes = self.agent.play(self.collection, [a.query for a in asked])
        return [self._answer(episode, a.k) for episode, a in zip(episodes, asked, strict=True)]

    def _answer(self, episode: Episode, k: int) -> Answer:
        assert episode.final is not None
        return Answer(found(self.collection, episode.final, k), [self._trace(step, k) for step in episode.steps])

    def _trace(self, step: Step, k: int) -> dict[str, Any]:
        return {
            "action": step.action.name.lower(),
            "probabilities": step.probabilities,
            "query": step.query,
            "lexical_share": step.lexical_share,
            "similarity": step.similarity,
            "keys": None if step.ranking is None else found(self.collection, step.ranking, k),
        }
