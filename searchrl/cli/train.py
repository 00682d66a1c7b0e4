"""``searchrl train``: train a search agent and show, on dev queries, what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.command import parse, run_command
from searchrl.config import TrainConfig
from searchrl.errors import DivergedError

if TYPE_CHECKING:
    from searchrl.cli.describe import Printer


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl train``."""
    run_command(_train, arguments)


def _train(arguments: Sequence[str]) -> None:
    config = parse(TrainConfig, arguments, "train.py", _defaults(arguments))
    from searchrl.cli.describe import Printer

    try:
        if config.sweep is None:
            _train_once(config, Printer())
        else:
            _train_several(config, Printer())
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or "go on with the same command and --resume") from None


def _train_once(config: TrainConfig, printer: Printer) -> None:
    from searchrl.agent.run_dir import open_run
    from searchrl.cli import describe
    from searchrl.env.features import members
    from searchrl.experiment.parts import open_models
    from searchrl.experiment.prepare import inputs, prepare_collections, read_collections
    from searchrl.experiment.recorder import Recorder, check_target
    from searchrl.experiment.train import train
    from searchrl.tracking import check_tracker

    output, learning = config.output, config.learning
    members(learning.hide)
    check_tracker(output.tracker)
    with open_models(config.models, config.game, show_progress=True) as models:
        printer.on_models(models)
        collections = read_collections(config.data, learning.seed, printer)
        check_target(output.checkpoint_dir)
        run = open_run(config, models.computed, inputs(collections))
        print(f"run: {run.path}")
        prepared = prepare_collections(collections, models, config.data, config.game, printer)
        recorder = Recorder(run, learning.checkpoint_every, output.checkpoint_dir, output.resume, output.tracker)
        try:
            trained = train(prepared, learning, [recorder, *printer.callbacks(recorder)], config)
        except DivergedError as error:
            raise DivergedError(f"{error}; {recorder.kept()}") from error
        for part in prepared.parts:
            if len(prepared.parts) > 1:
                print(describe.dataset(part.collection))
            print(describe.final(part, trained.policy, trained.final.best_fixed, learning.seed))
    print(f"checkpoints: {output.checkpoint_dir}/policy_final.pt, policy_best.pt (copies of {run.checkpoints})")


def _train_several(config: TrainConfig, printer: Printer) -> None:
    from searchrl.experiment.sweep import read_sweep, train_sweep

    folder, table = train_sweep(config, read_sweep(config), printer)
    print(f"dev queries, policy_final.pt of each run:\n{table}")
    print(f"sweep: {folder.path}/sweep.html, sweep.json, sweep.csv; curves: tensorboard --logdir {folder.path}")


def _defaults(arguments: Sequence[str]) -> TrainConfig:
    """``--config FILE`` sets the defaults that the other flags change."""
    for i, argument in enumerate(arguments):
        name, _, file = argument.partition("=")
        if name == "--config" and (file or i + 1 < len(arguments)):
            from searchrl.config_file import read_config  # reads with numpy, which the help does without

            return read_config(Path(file or arguments[i + 1]))
    return TrainConfig()
