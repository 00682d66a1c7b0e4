"""Before training: collections with their games and search graphs, and what there is to learn on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from searchrl.config import DataConfig, GameConfig, pick_settings
from searchrl.data.dataset import QuerySet, Split
from searchrl.experiment.callbacks import Listener
from searchrl.experiment.collection import Collection, read_collection
from searchrl.experiment.models import Models, open_models
from searchrl.experiment.parts import make_game, reward_source

if TYPE_CHECKING:
    from searchrl.env.game import Game
    from searchrl.env.graph import SearchGraph
    from searchrl.env.search_env import SearchEnv


TRAINING_SPLITS: tuple[Split, ...] = ("train", "dev")


@dataclass(frozen=True)
class PreparedCollection:
    """One collection, the game over it, and the search graphs of its splits."""

    collection: Collection
    game: Game
    graphs: Mapping[Split, SearchGraph]
    settings: GameConfig


@dataclass(frozen=True)
class Prepared:
    """All that training takes: collections with their graphs, and the models, which are to be closed."""

    parts: Sequence[PreparedCollection]
    models: Models
    data: DataConfig
    settings: GameConfig

    def graph(self, split: Split) -> SearchGraph:
        """The graphs of a split as one, in which each collection counts the same."""
        from searchrl.env.graph import join

        return join([part.graphs[split] for part in self.parts])

    @property
    def reward_source(self) -> str:
        """Which of a graph's gains pays the reward."""
        return reward_source(self.settings)

    def close(self) -> None:
        """Close the models."""
        self.models.close()


def prepare(dataset: str = "pydocs", *, seed: int = 42, show_progress: bool = False, **settings: Any) -> Prepared:
    """Read collections (several joined by commas), make the models, and build or load their search graphs.

    settings: fields of ``DataConfig``, ``ModelConfig``, ``EngineConfig`` and ``GameConfig``. The reward is human
    judgments unless ``reward="lm"`` or ``"head"`` asks for a model. Raises ConfigError on a setting that is not there.
    """
    data, models, game = pick_settings({"dataset": dataset, "reward": "qrels", **settings})
    listener = Listener()
    listener.show_progress = show_progress
    collections = read_collections(data, seed, listener)
    opened = open_models(models, game, show_progress)
    try:
        return prepare_collections(collections, opened, data, game, listener)
    except BaseException:
        opened.close()
        raise


def read_collections(data: DataConfig, seed: int, listener: Listener) -> list[Collection]:
    """Read what is trained on. Raises DataError where one has no train or dev queries."""
    collections = []
    for one in data.each():
        collections.append(read_collection(one, seed))
        listener.on_collection(collections[-1])
        for split in TRAINING_SPLITS:
            collections[-1].queries(split)
    return collections


def prepare_collections(
    collections: Sequence[Collection], models: Models, data: DataConfig, game: GameConfig, listener: Listener
) -> Prepared:
    """Build or load the search graphs to train on, collection by collection."""
    parts = []
    for one in collections:
        parts.append(prepare_collection(one, models, game, TRAINING_SPLITS, show_progress=listener.show_progress))
        listener.on_prepared(parts[-1])
    return Prepared(parts, models, data, game)


def prepare_collection(
    collection: Collection,
    models: Models,
    settings: GameConfig,
    splits: Sequence[Split],
    *,
    limit: int = 0,
    show_progress: bool = False,
) -> PreparedCollection:
    """The game over a collection, and the search graph of each split: stored, or built.

    limit: only the first so many queries of a split, 0 for all.
    """
    asked = {split: _first(collection.queries(split), limit) for split in splits}
    game = make_game(settings, collection.dataset.corpus, models, show_progress)
    graphs = {split: _graph(split, game, queries, models, show_progress) for split, queries in asked.items()}
    return PreparedCollection(collection, game, graphs, settings)


def make_env(
    dataset: str = "pydocs", split: Split = "train", render_mode: str | None = None, **settings: Any
) -> SearchEnv:
    """Entry point of ``gymnasium.make("searchrl/Search-v0", dataset=..., split=..., reward=..., max_steps=...)``.

    settings: as ``prepare`` takes them.
    """
    from searchrl.env.graph import RewardRules
    from searchrl.env.search_env import SearchEnv

    data, models, game = pick_settings({"dataset": dataset, "reward": "qrels", **settings})
    collection = read_collection(data, seed=42)
    played = make_game(game, collection.dataset.corpus, open_models(models, game))
    reward = RewardRules(reward_source(game), game.step_penalty, game.reward_baseline)
    return SearchEnv(played, collection.queries(split), reward, use_mask=game.mask, render_mode=render_mode)


def _first(queries: QuerySet, limit: int) -> QuerySet:
    return queries.take(limit) if limit else queries


def _graph(split: Split, game: Game, queries: QuerySet, models: Models, show_progress: bool) -> SearchGraph:
    from searchrl.env.build import BuildBar, obtain_graph

    with BuildBar(f"search graph, {split}", show_progress) as bar:
        return obtain_graph(game, queries, models.cache, bar)
