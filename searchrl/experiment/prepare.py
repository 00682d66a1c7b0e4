"""Before training: collections as an experiment uses them, with their games and search graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchrl.checks import at_least, typed
from searchrl.config import DataConfig, GameConfig, pick_settings
from searchrl.data.dataset import Dataset, QuerySet, Split, train_from_dev
from searchrl.data.load import load_dataset
from searchrl.data.query_bank import load_query_bank_for
from searchrl.errors import ConfigError, DataError
from searchrl.experiment.callbacks import Listener
from searchrl.experiment.parts import Models, make_game, open_models, reformulator_name, reward_rules, reward_source

if TYPE_CHECKING:
    from searchrl.env.game import Game
    from searchrl.env.graph import SearchGraph
    from searchrl.env.search_env import SearchEnv
    from searchrl.env.vector import VectorSearchEnv


TRAINING_SPLITS: tuple[Split, ...] = ("train", "dev")


@dataclass(frozen=True)
class Collection:
    """A dataset, and queries that a query bank puts in the place of some of its splits."""

    dataset: Dataset
    generated: Mapping[Split, QuerySet] = field(default_factory=dict)
    """Splits whose queries come from the bank, and their judgments from nobody: relevant is what they are about."""
    bank: Path | None = None
    mixed: bool = False
    """Whether the generated queries stand beside the train split's, not in their place."""

    def queries(self, split: Split) -> QuerySet:
        """The queries of one split. Raises DataError saying which splits there are."""
        if split in self.generated:
            return self.generated[split]
        found = self.dataset.splits.get(split)
        if found is None or not len(found):
            there = ", ".join(self.dataset.splits) or "none"
            hint = (
                "; train on another dataset and evaluate here (transfer), on generated queries (`query_bank`), or on "
                "half of the dev queries (`train_from_dev`)"
                if split == "train"
                else ""
            )
            raise DataError(
                f"dataset {self.dataset.name!r} has no {split} queries with judgments (it has: {there}){hint}"
            )
        return found

    def judged_by(self, split: Split) -> str:
        """Where the judgments of a split are from."""
        if split not in self.generated:
            return "human judgments"
        return "human judgments and source documents" if self.mixed else "source documents"


@dataclass(frozen=True)
class PreparedCollection:
    """One collection, the game over it, and the search graphs of its splits."""

    collection: Collection
    game: Game
    graphs: Mapping[Split, SearchGraph]
    settings: GameConfig

    def queries(self, split: Split) -> QuerySet:
        """The queries of a split's graph."""
        queries, count = self.collection.queries(split), len(self.graphs[split])
        return queries if len(queries) == count else queries.take(count)


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

    settings: fields of ``DataConfig``, ``ModelConfig``, ``EngineConfig`` and ``GameConfig``. People's judgments are the
    reward, and no reward model takes part, unless ``reward="lm"`` or ``"head"`` asks for one, or ``judge_depth`` says
    how many documents it judges. Raises ConfigError on a setting that is not there.
    """
    data, models, game = pick_settings({"dataset": dataset, **settings})
    at_least("seed", typed(int, seed, "`seed`"), 0)
    listener = Listener()
    listener.show_progress = show_progress
    collections = read_collections(data, seed, listener)
    opened = open_models(models, game, show_progress)
    try:
        return prepare_collections(collections, opened, data, game, listener)
    except BaseException:
        opened.close()
        raise


def read_collection(data: DataConfig, seed: int) -> Collection:
    """Read, or download, the one collection that ``data`` names.

    ``seed`` settles which train queries become dev where there is no dev split, unless ``data`` has a seed of its own.
    """
    if len(data.datasets) > 1:
        raise ConfigError(f"dataset {data.dataset}: only training works with several at once; name one of them")
    seed = seed if data.split_seed is None else data.split_seed
    dataset = load_dataset(
        data.dataset, data_dir=data.data_dir, mirror=data.mirror, seed=seed, own_document=data.own_document
    )
    if data.train_from_dev and "train" not in dataset.splits:
        dataset = train_from_dev(dataset, seed)
    if data.query_bank is None:
        return Collection(dataset)
    bank = load_query_bank_for(data.query_bank, dataset.corpus)
    if data.mix_query_bank:
        train = Collection(dataset).queries("train").joined(bank.query_set())
        return Collection(dataset, {"train": train}, data.query_bank, mixed=True)
    generated: Mapping[Split, QuerySet] = {"train": bank.query_set()} if "dev" in dataset.splits else bank.splits(seed)
    return Collection(dataset, generated, data.query_bank)


def read_collections(data: DataConfig, seed: int, listener: Listener) -> list[Collection]:
    """Read what is trained on. Raises DataError where one has no train or dev queries."""
    collections = []
    for one in data.each():
        collections.append(read_collection(one, seed))
        listener.on_collection(collections[-1])
        for split in TRAINING_SPLITS:
            collections[-1].queries(split)
    return collections


def inputs(collections: Sequence[Collection]) -> dict[str, str]:
    """What training reads of collections -> 16 hex digits that change with it: documents, train and dev queries."""
    found = {}
    for one in collections:
        found[f"documents of {one.dataset.name}"] = one.dataset.corpus.fingerprint
        for split in TRAINING_SPLITS:
            found[f"{split} queries of {one.dataset.name} or their judgments"] = one.queries(split).fingerprint
    return found


def prepare_collections(
    collections: Sequence[Collection], models: Models, data: DataConfig, game: GameConfig, listener: Listener
) -> Prepared:
    """Build or load the search graphs to train on, collection by collection."""
    game = replace(game, reformulator=reformulator_name(game, models.settings, models.writers))
    parts = []
    for one in collections:
        limits: dict[Split, int] = {"train": data.max_train, "dev": data.max_dev}
        parts.append(prepare_collection(one, models, game, limits, show_progress=listener.show_progress))
        listener.on_prepared(parts[-1])
    return Prepared(parts, models, data, game)


def prepare_collection(
    collection: Collection,
    models: Models,
    settings: GameConfig,
    limits: Mapping[Split, int],
    *,
    show_progress: bool = False,
) -> PreparedCollection:
    """The game over a collection, and the search graph of each split: stored, or built.

    limits: for each split, how many of its queries, the first ones; 0 for all.
    """
    from searchrl.env.build import build_bar, obtain_graph

    asked = {split: collection.queries(split) for split in limits}
    asked = {split: queries.take(limits[split] or len(queries)) for split, queries in asked.items()}
    game = make_game(settings, collection.dataset.corpus, models, show_progress)
    graphs = {}
    for split, queries in asked.items():
        with build_bar(f"search graph, {split}", show_progress) as bar:
            graphs[split] = obtain_graph(game, queries, models.cache, bar)
    return PreparedCollection(collection, game, graphs, settings)


def make_env(
    dataset: str = "pydocs", split: Split = "train", render_mode: str | None = None, **settings: Any
) -> SearchEnv:
    """Entry point of ``gymnasium.make("searchrl/Search-v0", dataset=..., split=..., reward=..., max_steps=...)``.

    settings: as ``prepare`` takes them.
    """
    from searchrl.env.search_env import SearchEnv

    data, models, game = pick_settings({"dataset": dataset, **settings})
    collection = read_collection(data, seed=42)
    played = make_game(game, collection.dataset.corpus, open_models(models, game))
    return SearchEnv(played, collection.queries(split), reward_rules(game), use_mask=game.mask, render_mode=render_mode)


def make_vector_env(
    num_envs: int = 1, dataset: str = "pydocs", split: Split = "train", **settings: Any
) -> VectorSearchEnv:
    """The same for ``gymnasium.make_vec(..., vectorization_mode="vector_entry_point")``: the search graph is built, or
    loaded, and played on.
    """
    from searchrl.env.vector import VectorSearchEnv

    data, models, game = pick_settings({"dataset": dataset, **settings})
    collection = read_collection(data, seed=42)
    with open_models(models, game) as opened:
        similarity = opened.encoder.similarity
        graph = prepare_collection(collection, opened, game, {split: 0}).graphs[split]
    return VectorSearchEnv(num_envs, graph, reward_rules(game), game.mask, similarity)
