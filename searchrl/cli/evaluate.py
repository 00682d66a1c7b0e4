"""``searchrl eval``: compare a trained agent with fixed ways to search, on human judgments first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from searchrl.cli.settings import EvalConfig
from searchrl.command import parse, run_command


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl eval``."""
    run_command(_evaluate, arguments)


def _evaluate(arguments: Sequence[str]) -> None:
    config = parse(EvalConfig, arguments, "eval.py")
    from searchrl.cli import describe
    from searchrl.experiment.collection import read_collection
    from searchrl.experiment.evaluate import data_settings, evaluate_on, model_settings, read_policy
    from searchrl.experiment.models import open_models

    policy = read_policy(config.checkpoint)
    trained, checkpoint = policy.trained, policy.checkpoint
    data = data_settings(trained, config.dataset, config.data_dir, config.mirror)
    settings = model_settings(trained, device=config.device, cache=config.cache, lm=config.lm, serving=config.serving)
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
            show_progress=True,
        )
        print(evaluated)
        evaluated.write(output)
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
