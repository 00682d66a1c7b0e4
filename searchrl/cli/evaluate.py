"""``searchrl eval``: compare a trained agent with fixed ways to search, on human judgments first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from searchrl.checks import at_least
from searchrl.command import parse, run_command
from searchrl.config import (
    CollectionConfig,
    ComputeConfig,
    EngineConfig,
    IndexConfig,
    RayConfig,
    SplitName,
    TrackerName,
)


@dataclass(frozen=True)
class EvalConfig:
    """Compare a trained agent with fixed ways to search."""

    checkpoint: str = "auto"
    """A policy that train.py wrote, or hf://USER/REPO on the Hugging Face hub; auto: the newest of yours,
    checkpoints/policy_final.pt, else checkpoints/pydocs.pt, which comes with SearchRL."""
    dataset: str | None = None
    """What to search; the dataset the policy was trained on if not given. Another one measures transfer."""
    split: SplitName = "test"
    """Queries to evaluate on."""
    num_queries: int = 200
    """Queries at most, the first of the split; 0 for all."""
    also: tuple[str, ...] = ()
    """Further columns of the table, as ir_measures names them: AP, RR@10, P@5, ERR@20, P(rel=2)@5 ..."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    collection: CollectionConfig = field(default_factory=CollectionConfig)
    lm: str | None = None
    """Another language model than the policy was trained with."""
    serving: EngineConfig = field(default_factory=EngineConfig)
    indexing: IndexConfig = field(default_factory=IndexConfig)
    cluster: RayConfig = field(default_factory=RayConfig)
    output_dir: Path | None = None
    """Folder for TREC runs and per-query results; runs/eval-<dataset>-<split>-<number> if not given."""
    overwrite: bool = False
    """Replace results in --output-dir."""
    tracker: TrackerName = "none"
    """Who gets the table's means besides the report: tensorboard, trackio, wandb, mlflow."""
    seed: int = 42
    """Seeds the random strategy and the bootstrap."""

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated."""
        at_least("num_queries", self.num_queries, 0)
        at_least("seed", self.seed, 0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl eval``."""
    run_command(_evaluate, arguments)


def _evaluate(arguments: Sequence[str]) -> None:
    config = parse(EvalConfig, arguments, "eval.py")
    from searchrl.cli import describe
    from searchrl.evaluation.measures import parse_measure
    from searchrl.experiment.evaluate import data_settings, evaluate_on, model_settings, read_policy
    from searchrl.experiment.parts import open_models
    from searchrl.experiment.prepare import read_collection
    from searchrl.tracking import check_tracker

    for measure in config.also:
        parse_measure(measure)  # what is unknown is said before anything slow
    check_tracker(config.tracker)
    policy = read_policy(config.checkpoint)
    trained, checkpoint = policy.trained, policy.checkpoint
    where = config.collection
    own = where.own_document if where.own_document != "text" else None
    data = data_settings(trained, config.dataset, where.data_dir, where.mirror, own)
    compute, serving = config.compute, config.serving
    settings = model_settings(
        trained,
        device=compute.device,
        cache=compute.cache,
        lm=config.lm,
        serving=serving,
        indexing=config.indexing,
        cluster=config.cluster,
    )
    with open_models(settings, trained.game, show_progress=True) as models:
        print(describe.models(models))
        print(f"policy: {policy.source}, trained on {checkpoint.dataset}, episode {checkpoint.episode}")
        if note := policy.other_formats(models):
            print(f"note: {note}")
        collection = read_collection(data, trained.learning.seed)
        print(describe.dataset(collection))
        collection.queries(config.split)
        output = _output_folder(config, collection.dataset.name)
        evaluated = evaluate_on(
            collection,
            models,
            policy,
            trained.game,
            config.split,
            limit=config.num_queries,
            seed=config.seed,
            also=config.also,
            show_progress=True,
        )
        print(evaluated)
        evaluated.write(output)
        evaluated.track(config.tracker, output)
    print(f"results: {output}, to be read from {output / 'report.html'}")


def _output_folder(config: EvalConfig, dataset: str) -> Path:
    """The folder for results, made now: that it cannot be should be known before the work, not after."""
    from searchrl.agent.run_dir import next_free
    from searchrl.errors import OutputError

    folder = config.output_dir or next_free(Path("runs"), f"eval-{dataset}-{config.split}")
    if folder.is_dir() and any(folder.iterdir()) and not config.overwrite:
        raise OutputError(f"{folder} is not empty; use --overwrite to replace results there, or another --output-dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); choose another --output-dir") from error
    return folder
