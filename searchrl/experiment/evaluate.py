"""A trained agent beside fixed ways to search, on the same queries: one table, its files, one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from searchrl.agent.checkpoint import PolicyCheckpoint, find_policy, in_words, load_policy, paid_by
from searchrl.agent.policy import Policy as Network
from searchrl.agent.trainer import greedy_episodes
from searchrl.checks import at_least, typed
from searchrl.config import (
    DataConfig,
    EngineConfig,
    GameConfig,
    IndexConfig,
    ModelConfig,
    OwnDocumentName,
    RayConfig,
    SplitName,
    TrackerName,
    TrainConfig,
)
from searchrl.config_file import differences, from_json
from searchrl.data.dataset import QuerySet, Split
from searchrl.env.graph import GraphTensors
from searchrl.env.tree import action_names
from searchrl.errors import CheckpointError, ConfigError
from searchrl.evaluation.charts import write_pictures
from searchrl.evaluation.comparison import ComparisonTable, compare_methods, human_first
from searchrl.evaluation.measures import MEASURES
from searchrl.evaluation.report import write_report
from searchrl.evaluation.report_data import find_run, read_curves
from searchrl.evaluation.results import write_results
from searchrl.experiment.parts import Models, open_models, reward_rules, reward_source
from searchrl.experiment.prepare import Collection, PreparedCollection, prepare_collection, read_collection
from searchrl.experiment.train import Trained
from searchrl.tracking import open_tracker


@dataclass(frozen=True)
class Policy:
    """A checkpoint and where it came from."""

    source: str
    checkpoint: PolicyCheckpoint

    @property
    def trained(self) -> TrainConfig:
        """The settings of its training. Raises ConfigError where they are not this version's."""
        return from_json(TrainConfig, self.checkpoint.config, self.source)

    def other_formats(self, models: Models) -> str:
        """One line where the policy was trained with other models or numeric formats than these, else nothing."""
        if not self.checkpoint.computed:
            return ""
        changed = differences(self.checkpoint.computed["models"], models.computed["models"])
        return f"the policy was trained with other numeric formats or models: {'; '.join(changed)}" if changed else ""


@dataclass(frozen=True)
class Evaluated:
    """What a policy and everything beside it did on the queries of one split."""

    policy: Policy
    part: PreparedCollection
    split: Split
    table: ComparisonTable
    seed: int
    computed: dict[str, Any]
    """Processor and numeric formats."""

    @property
    def queries(self) -> QuerySet:
        """The queries that were evaluated."""
        return self.part.queries(self.split)

    def __str__(self) -> str:
        table = f"{len(self.queries)} {self.split} queries:\n{self.table}"
        return f"{table}\ncomputed: {in_words(self.computed)}"

    def write(self, folder: Path) -> None:
        """Write TREC runs, ``per_query.jsonl``, ``results.json``, ``report.html`` and pictures into a folder."""
        dataset, checkpoint = self.part.collection.dataset, self.policy.checkpoint
        graph, queries = self.part.graphs[self.split], self.queries
        details = {
            "checkpoint": self.policy.source,
            "trained_on": checkpoint.dataset,
            "dataset": dataset.name,
            "episode": checkpoint.episode,
            "split": self.split,
            "seed": self.seed,
            "graph": graph.meta["fingerprint"],
            "version": checkpoint.version,
            "computed": self.computed,
        }
        write_results(folder, self.table, queries, dataset.corpus.ids, details)
        run = find_run(Path(self.policy.source), Path(checkpoint.config.get("output", {}).get("runs_dir", "runs")))
        write_report(
            folder,
            self.table,
            graph,
            queries,
            dataset.corpus,
            title=f"Search agent on {dataset.name}, {self.split} queries",
            facts=self._facts(),
            notes=dataset.notes,
            curves=read_curves(run) if run else None,
        )
        write_pictures(folder, self.table)

    def track(self, tracker: TrackerName, folder: Path) -> None:
        """Tell a tracker each method's means, and where the report is that ``write`` wrote into ``folder``."""
        page = open_tracker(tracker, folder, folder.name)
        page.note("report", str((folder / "report.html").resolve()))
        means = {
            f"{self.split}/{measure}/{method.name}": mean
            for method in self.table.methods
            for measure, mean in method.means.items()
        }
        page.log(means, len(self.queries))
        page.close()

    def _facts(self) -> dict[str, object]:
        """What the report says about how it came to be."""
        dataset, game, checkpoint = self.part.collection.dataset, self.part.settings, self.policy.checkpoint
        queries = self.queries
        return {
            "collection": f"{dataset.name}, {len(dataset.corpus):,} documents",
            "queries": f"{len(queries)} {self.split} queries" + ("" if queries.judged else ", without human judgments"),
            "policy": f"{self.policy.source}, trained on {checkpoint.dataset}, episode {checkpoint.episode}",
            "paid in training by": paid_by(checkpoint.config),
            "retriever": f"{game.retriever}, encoder {checkpoint.config['models']['encoder']}",
            "reformulator": game.reformulator,
            "episodes": f"at most {game.max_steps} steps, {game.step_penalty} taken off for each, "
            f"{game.judge_penalty} for each document judged; fusion {game.fusion}",
            "reranking": reranking(game),
            "best_fixed is": action_names(checkpoint.best_fixed).lower(),
            "seed": self.seed,
            "version": checkpoint.version,
            "computed": in_words(self.computed),
        }


def read_policy(name: str = "auto") -> Policy:
    """Read a policy: a file, ``hf://USER/REPO``, the name of one that ships with SearchRL, or ``auto``."""
    path = find_policy(name)
    return Policy(str(path), load_policy(path))


def evaluate(
    policy: Trained | PolicyCheckpoint | str | Path = "auto",
    dataset: str | None = None,
    *,
    split: Split = "test",
    num_queries: int = 0,
    seed: int = 42,
    also: Sequence[str] = (),
    device: str = "auto",
    cache: bool = True,
    data_dir: Path | None = None,
    show_progress: bool = False,
) -> Evaluated:
    """Compare a policy with fixed ways to search, with the models and rules it was trained with.

    policy: what ``train`` gave, a checkpoint, or what ``read_policy`` takes. dataset: by default what it was trained
    on. num_queries: the first so many of the split, 0 for all. seed: of the random strategy and the bootstrap. also:
    further measures, as ir_measures names them. Raises ConfigError on an argument of another type.
    """
    given = {"split": split, "num_queries": num_queries, "seed": seed, "device": device, "cache": cache}
    kinds = {"split": SplitName, "num_queries": int, "seed": int, "device": str, "cache": bool}
    split, num_queries, seed, device, cache = (typed(kinds[name], value, f"`{name}`") for name, value in given.items())
    dataset, data_dir = typed(str | None, dataset, "`dataset`"), typed(Path | None, data_dir, "`data_dir`")
    at_least("num_queries", num_queries, 0)
    at_least("seed", seed, 0)
    if not isinstance(policy, Trained | PolicyCheckpoint | str | Path):
        raise ConfigError(f"`policy` is {policy!r:.60}: give what train gave, a checkpoint, or a name or path of one")
    if isinstance(policy, Trained):
        policy = policy.final
    found = Policy("this process", policy) if isinstance(policy, PolicyCheckpoint) else read_policy(str(policy))
    trained = found.trained
    data = data_settings(trained, dataset, data_dir)
    with open_models(model_settings(trained, device=device, cache=cache), trained.game, show_progress) as models:
        collection = read_collection(data, trained.learning.seed)
        return evaluate_on(
            collection,
            models,
            found,
            trained.game,
            split,
            limit=num_queries,
            seed=seed,
            also=also,
            show_progress=show_progress,
        )


def reranking(game: GameConfig) -> str:
    """How the reward model takes part in the final ranking, in words."""
    if not game.judge_depth:
        return "none"
    shares = ", ".join(map(str, game.trust))
    return f"top {game.judge_depth} of each search, share {f'chosen among {shares}' if len(game.trust) > 1 else shares}"


def data_settings(
    trained: TrainConfig,
    dataset: str | None,
    data_dir: Path | None = None,
    mirror: str | None = None,
    own_document: OwnDocumentName | None = None,
) -> DataConfig:
    """What to evaluate on: the collection of training, or another one; never generated queries."""
    data = replace(trained.data, query_bank=None, mix_query_bank=False)
    if dataset:
        data = replace(data, dataset=dataset, train_from_dev=data.train_from_dev and dataset in data.datasets)
    return replace(
        data,
        data_dir=data_dir or data.data_dir,
        mirror=mirror or data.mirror,
        own_document=own_document or data.own_document,
    )


def model_settings(
    trained: TrainConfig,
    *,
    device: str,
    cache: bool,
    lm: str | None = None,
    serving: EngineConfig | None = None,
    indexing: IndexConfig | None = None,
    cluster: RayConfig | None = None,
) -> ModelConfig:
    """The models of training, all on this device, by this engine; index and cluster are those given, or none."""
    serving = serving if serving and serving.engine != "auto" else trained.models.serving
    lm = lm or ("auto" if serving.engine == "http" else trained.models.lm)
    models = replace(trained.models, reward_device=None, reformulator_device=None)
    models = replace(models, indexing=indexing or IndexConfig(), cluster=cluster or RayConfig())
    return replace(models, device=device, cache=cache, lm=lm, serving=serving)


def evaluate_on(
    collection: Collection,
    models: Models,
    policy: Policy,
    game: GameConfig,
    split: Split,
    *,
    limit: int = 0,
    seed: int = 42,
    also: Sequence[str] = (),
    show_progress: bool = False,
) -> Evaluated:
    """Prepare a split, and measure the policy on it as ``compare_on`` does.

    Raises CheckpointError where the policy reads other embeddings or features than there are here.
    """
    checkpoint = policy.checkpoint
    if checkpoint.encoder != models.encoder.fingerprint:
        raise CheckpointError(
            f"{policy.source}: made for the embeddings of encoder {checkpoint.encoder}, but {models.encoder.name} in "
            f"{models.encoder.dtype} here is {models.encoder.fingerprint}; train a policy for this encoder"
        )
    part = prepare_collection(collection, models, game, {split: limit}, show_progress=show_progress)
    if tuple(checkpoint.feature_names) != part.game.feature_names:
        differing = set(checkpoint.feature_names) ^ set(part.game.feature_names)
        raise CheckpointError(
            f"{policy.source}: made for other features (differing: {', '.join(sorted(differing)) or 'their order'}); "
            "train a policy with this version"
        )
    table = compare_on(part, split, checkpoint.policy, checkpoint.best_fixed, seed, checkpoint.rerank_share, also)
    return Evaluated(policy, part, split, table, seed, models.computed)


def compare_on(
    part: PreparedCollection,
    split: Split,
    policy: Network,
    best_fixed: Sequence[int],
    seed: int,
    rerank_share: float | None = None,
    also: Sequence[str] = (),
) -> ComparisonTable:
    """Play the policy's most probable episodes on a split's graph, and measure them as ``compare_methods`` does."""
    game, graph = part.settings, part.graphs[split]
    rules = replace(reward_rules(game), source=next(iter(graph.gains)))
    ends, _ = greedy_episodes(policy, GraphTensors(graph, rules, game.mask))
    return compare_methods(
        graph,
        part.queries(split),
        part.game,
        ends.numpy(),
        best_fixed,
        source=human_first(graph, reward_source(game)),
        seed=seed,
        rerank_share=rerank_share,
        measures=tuple(dict.fromkeys([*MEASURES, *also])),
    )
