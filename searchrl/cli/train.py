"""``train.py``: train a search agent and show, on dev queries, what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.command import held_interrupt, parse, run_command
from searchrl.config import TrainConfig
from searchrl.config_file import read_config

if TYPE_CHECKING:
    from searchrl.agent.run_dir import RunDir
    from searchrl.agent.trainer import Progress
    from searchrl.assemble import Workbench
    from searchrl.env.graph import SearchGraph


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``train.py`` and ``searchrl-train``."""
    run_command(_train, arguments)


def _train(arguments: Sequence[str]) -> None:
    config = parse(TrainConfig, arguments, "train.py", _defaults(arguments))
    from searchrl.assemble import Workbench

    with closing(Workbench(config.data, config.models, config.game, config.learning.seed)) as bench:
        _train_on(config, bench)


def _train_on(config: TrainConfig, bench: Workbench) -> None:
    from searchrl.agent.run_dir import open_run
    from searchrl.cli import describe
    from searchrl.cli.publish import check_target

    print(describe.models(bench, bench.uses_lm))
    print(describe.dataset(bench))
    # Whatever can be wrong is found before a folder is made and the long work begins.
    bench.check(["train", "dev"])
    check_target(config.output.checkpoint_dir)
    run = open_run(config)
    print(f"run: {run.path}")
    try:
        train, dev = bench.graph("train"), bench.graph("dev")
        print(describe.judge(bench, train))
        print(describe.headroom(bench, {"train": train, "dev": dev}))
        _learn(config, bench, run, train, dev)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or "go on with the same command and --resume") from None


def _defaults(arguments: Sequence[str]) -> TrainConfig:
    """``--config FILE`` sets the defaults that the other flags change."""
    for i, argument in enumerate(arguments):
        if argument == "--config" and i + 1 < len(arguments):
            return read_config(Path(arguments[i + 1]))
        if argument.startswith("--config="):
            return read_config(Path(argument.partition("=")[2]))
    return TrainConfig()


def _learn(config: TrainConfig, bench: Workbench, run: RunDir, train: SearchGraph, dev: SearchGraph) -> None:
    from searchrl.agent import strategies
    from searchrl.agent.trainer import Trainer
    from searchrl.cli import describe
    from searchrl.cli.compare import human_first
    from searchrl.cli.recorder import Recorder
    from searchrl.env.batched import GraphTensors, RewardRules

    game = config.game
    rules = RewardRules(bench.reward_source, game.step_penalty, game.reward_baseline)
    trainer = Trainer(
        GraphTensors(train, rules, game.mask), GraphTensors(dev, rules, game.mask), config.learning, train.dim
    )
    best_fixed = strategies.best_fixed(dev, human_first(dev, bench), game.step_penalty)
    identity = describe.identity(config, bench, trainer, train, best_fixed)
    with Recorder(run, config, trainer, identity) as recorder, held_interrupt() as interrupted:

        def on_progress(progress: Progress) -> None:
            recorder.on_progress(progress)
            if interrupted():  # between two updates, where what is saved is whole
                raise KeyboardInterrupt(recorder.save_state())

        recorder.begin()
        trainer.run(on_progress)
        recorder.finish()
    print(describe.final(bench, trainer, dev, identity.best_fixed))
    print(f"checkpoints: {config.output.checkpoint_dir}/policy_final.pt, policy_best.pt (copies of {run.checkpoints})")
