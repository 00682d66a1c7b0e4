"""The trained agent on any indexed corpus: a checkpoint's policy, rules and models over that corpus's indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from searchrl.agent.checkpoint import PolicyCheckpoint, load_policy
from searchrl.config import ModelConfig, TrainConfig
from searchrl.config_file import from_json
from searchrl.env.game import Game
from searchrl.env.live import Episode, Step, play_live
from searchrl.errors import CheckpointError
from searchrl.experiment.evaluate import model_settings
from searchrl.experiment.parts import make_loader, make_reformulator, make_reward_model, make_rules
from searchrl.retrieval.dense import TextEncoder
from searchrl.search.first_stage import Answer, Asked, IndexedCorpus


class Agent:
    """A policy and what it was trained with; the models that its rules need are loaded when they are first needed.

    models: device, cache and engine to run them with; everything else is as in training. encoder: what corpora are
    indexed with. Raises CheckpointError where the file is no policy, or one for another encoder, ConfigError where its
    settings are not this version's, ModelError where a model of its cannot be had. Close it when done.
    """

    def __init__(self, path: Path, models: ModelConfig, encoder: TextEncoder) -> None:
        self.path = path
        self.checkpoint: PolicyCheckpoint = load_policy(path)
        trained = from_json(TrainConfig, self.checkpoint.config, str(path))
        if self.checkpoint.encoder != encoder.fingerprint:
            raise CheckpointError(
                f"{path}: made for the embeddings of encoder {self.checkpoint.encoder} ({trained.models.encoder}), not "
                f"{encoder.fingerprint}, which runs here; choose encoder {trained.models.encoder}"
            )
        self._models = model_settings(trained, device=models.device, cache=models.cache, serving=models.serving)
        self._game_config = trained.game
        self._loader = make_loader(self._models)
        self._reward_model = make_reward_model(self._models, trained.game, self._loader)  # what is missing is said now
        self.retriever = trained.game.retriever
        """What the agent's first search uses."""
        self._games: WeakKeyDictionary[IndexedCorpus, Game] = WeakKeyDictionary()

    @property
    def facts(self) -> dict[str, Any]:
        """What there is to say about it."""
        checkpoint = self.checkpoint
        return {"checkpoint": self.path.name, "trained_on": checkpoint.dataset, "episode": checkpoint.episode}

    def play(self, index: IndexedCorpus, texts: Sequence[str]) -> list[Episode]:
        """One episode a query. Raises CheckpointError where the policy reads other features than this version has."""
        return play_live(self.checkpoint.policy, self._game(index), texts)

    def close(self) -> None:
        """Close the language model's cache, if it was opened."""
        self._loader.close()

    def _game(self, index: IndexedCorpus) -> Game:
        if index not in self._games:
            config = self._game_config
            retriever = index.retriever(config.retriever, config.depth)
            reformulator = make_reformulator(config, self._models, self._loader, index.corpus, retriever)
            game = Game(index.corpus, retriever, reformulator, self._reward_model, make_rules(config))
            if tuple(self.checkpoint.feature_names) != game.feature_names:
                raise CheckpointError(f"{self.path}: made for other features; train a policy with this version")
            self._games[index] = game
        return self._games[index]


@dataclass(frozen=True)
class PlayAgent:
    """``worker.Work``: queries to the documents that the agent finds in a corpus, and what it did on the way."""

    agent: Agent
    index: IndexedCorpus

    def __call__(self, asked: Sequence[Asked]) -> list[Answer]:
        """One answer a query."""
        episodes = self.agent.play(self.index, [a.query for a in asked])
        return [self._answer(episode, a.k) for episode, a in zip(episodes, asked, strict=True)]

    def _answer(self, episode: Episode, k: int) -> Answer:
        assert episode.final is not None
        return Answer(self.index.found(episode.final, k), [self._trace(step, k) for step in episode.steps])

    def _trace(self, step: Step, k: int) -> dict[str, Any]:
        return {
            "action": step.action.name.lower(),
            "probabilities": step.probabilities,
            "query": step.query,
            "lexical_share": step.lexical_share,
            "similarity": step.similarity,
            "keys": None if step.ranking is None else self.index.found(step.ranking, k),
        }
