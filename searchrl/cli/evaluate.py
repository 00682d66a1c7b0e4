"""``eval.py``: compare a trained agent with fixed ways to search, on human judgments first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.cli.settings import EvalConfig
from searchrl.command import parse, run_command
from searchrl.config import TrainConfig
from searchrl.config_file import from_json

if TYPE_CHECKING:
    from searchrl.agent.checkpoint import PolicyCheckpoint
    from searchrl.data.dataset import QuerySet
    from searchrl.env.graph import SearchGraph
    from searchrl.evaluation.comparison import ComparisonTable
    from searchrl.experiment.parts import Workbench


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``eval.py`` and ``searchrl-eval``."""
    run_command(_evaluate, arguments)


def _evaluate(arguments: Sequence[str]) -> None:
    config = parse(EvalConfig, arguments, "eval.py")
    from searchrl.agent.checkpoint import load_policy
    from searchrl.cli.policy_source import find_policy

    path = find_policy(config.checkpoint)
    config = replace(config, checkpoint=str(path))
    checkpoint = load_policy(path)
    with closing(_workbench(config, checkpoint)) as bench:
        _compare(config, checkpoint, bench)


def _compare(config: EvalConfig, checkpoint: PolicyCheckpoint, bench: Workbench) -> None:
    from searchrl.agent.card import in_words
    from searchrl.agent.trainer import greedy_episodes
    from searchrl.cli import describe
    from searchrl.cli.describe import compare
    from searchrl.env.batched import GraphTensors, RewardRules
    from searchrl.evaluation.results import write_results

    print(describe.models(bench))
    print(f"policy: {config.checkpoint}, trained on {checkpoint.dataset}, episode {checkpoint.episode}")
    if note := _other_format(checkpoint, bench):
        print(note)
    print(describe.dataset(bench))
    queries = bench.queries(config.split)
    queries = queries.take(config.num_queries) if config.num_queries else queries
    output = _output_folder(config, bench.dataset.name)
    _check_fit(config, checkpoint, bench)
    graph = bench.graph(config.split, config.num_queries)
    rules = RewardRules(next(iter(graph.gains)), bench.game_config.step_penalty)
    ends, _ = greedy_episodes(checkpoint.policy, GraphTensors(graph, rules, bench.game_config.mask))
    table = compare(bench, graph, queries, ends.numpy(), checkpoint.best_fixed, config.seed)
    print(f"{len(queries)} {config.split} queries:\n{table}\ncomputed: {in_words(bench.computed)}")
    write_results(output, table, queries, bench.dataset.corpus.ids, _details(config, checkpoint, bench, graph))
    _report(output, config, checkpoint, bench, graph, queries, table)
    print(f"results: {output}, to be read from {output / 'report.html'}")


def _workbench(config: EvalConfig, checkpoint: PolicyCheckpoint) -> Workbench:
    """The parts the policy was trained with, on the dataset asked for."""
    from searchrl.experiment.parts import Workbench

    trained = from_json(TrainConfig, checkpoint.config, config.checkpoint)
    data = replace(trained.data, query_bank=None)
    if config.dataset:
        known = config.dataset in data.datasets
        data = replace(data, dataset=config.dataset, train_from_dev=data.train_from_dev and known)
    if config.data_dir:
        data = replace(data, data_dir=config.data_dir)
    data = replace(data, mirror=config.mirror or data.mirror)
    serving = config.serving if config.serving.engine != "auto" else trained.models.serving
    lm = config.lm or ("auto" if serving.engine == "http" else trained.models.lm)
    models = replace(trained.models, device=config.device, cache=config.cache, lm=lm, serving=serving)
    return Workbench(data, models, trained.game, trained.learning.seed)


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


def _check_fit(config: EvalConfig, checkpoint: PolicyCheckpoint, bench: Workbench) -> None:
    """Refuse a policy that reads other embeddings or features than there are here."""
    from searchrl.errors import CheckpointError

    if checkpoint.encoder != bench.encoder.fingerprint:
        raise CheckpointError(
            f"{config.checkpoint}: made for the embeddings of encoder {checkpoint.encoder}, but "
            f"{bench.models.encoder} here is {bench.encoder.fingerprint}; train a policy for this encoder"
        )
    if tuple(checkpoint.feature_names) != bench.game.feature_names:
        missing = set(checkpoint.feature_names) ^ set(bench.game.feature_names)
        raise CheckpointError(
            f"{config.checkpoint}: made for other features (differing: {', '.join(sorted(missing)) or 'their order'}); "
            "train a policy with this version"
        )


def _report(
    output: Path,
    config: EvalConfig,
    checkpoint: PolicyCheckpoint,
    bench: Workbench,
    graph: SearchGraph,
    queries: QuerySet,
    table: ComparisonTable,
) -> None:
    """The same for people: ``report.html``, and plots where matplotlib is installed."""
    from searchrl.agent.card import in_words, paid_by
    from searchrl.env.tree import Action
    from searchrl.evaluation.report.charts import write_pictures
    from searchrl.evaluation.report.data import find_run, read_curves
    from searchrl.evaluation.report.page import write_report

    dataset, game = bench.dataset, bench.game_config
    run = find_run(Path(config.checkpoint), Path(checkpoint.config.get("output", {}).get("runs_dir", "runs")))
    facts = {
        "collection": f"{dataset.name}, {len(dataset.corpus):,} documents",
        "queries": f"{len(queries)} {config.split} queries" + ("" if queries.judged else ", without human judgments"),
        "policy": f"{config.checkpoint}, trained on {checkpoint.dataset}, episode {checkpoint.episode}",
        "paid in training by": paid_by(checkpoint.config),
        "retriever": f"{game.retriever}, encoder {bench.models.encoder}",
        "reformulator": game.reformulator,
        "episodes": f"at most {game.max_steps} steps, {game.step_penalty} taken off for each; fusion {game.fusion}",
        "reranking": f"top {game.rerank_depth}, weight {game.rerank_weight}" if game.rerank_depth else "none",
        "best_fixed is": " ".join(Action(action).name.lower() for action in checkpoint.best_fixed),
        "seed": config.seed,
        "version": checkpoint.version,
        "computed": in_words(bench.computed),
    }
    write_report(
        output,
        table,
        graph,
        queries,
        dataset.corpus,
        title=f"Search agent on {dataset.name}, {config.split} queries",
        facts=facts,
        notes=dataset.notes,
        curves=read_curves(run) if run else None,
    )
    write_pictures(output, table)


def _details(
    config: EvalConfig, checkpoint: PolicyCheckpoint, bench: Workbench, graph: SearchGraph
) -> dict[str, object]:
    """What ``results.json`` says about how it came to be."""
    return {
        "checkpoint": config.checkpoint,
        "trained_on": checkpoint.dataset,
        "dataset": bench.dataset.name,
        "episode": checkpoint.episode,
        "split": config.split,
        "seed": config.seed,
        "graph": graph.meta["fingerprint"],
        "version": checkpoint.version,
        "computed": bench.computed,
    }


def _other_format(checkpoint: PolicyCheckpoint, bench: Workbench) -> str:
    """One line where the policy was trained in other numeric formats than it is evaluated in."""
    from searchrl.config_file import differences

    if not checkpoint.computed:
        return ""
    changed = differences(checkpoint.computed["models"], bench.computed["models"])
    return f"note: the policy was trained with other numeric formats or models: {'; '.join(changed)}" if changed else ""
