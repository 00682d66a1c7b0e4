"""``train.py``: train a search agent and show, on dev queries, what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.command import held_interrupt, parse, run_command
from searchrl.config import TrainConfig
from searchrl.config_file import read_config

if TYPE_CHECKING:
    from searchrl.agent.checkpoint import PolicyCheckpoint
    from searchrl.agent.run_dir import RunDir
    from searchrl.agent.trainer import Progress, Trainer
    from searchrl.env.graph import SearchGraph
    from searchrl.experiment.parts import Workbench


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``train.py`` and ``searchrl-train``."""
    run_command(_train, arguments)


def _train(arguments: Sequence[str]) -> None:
    config = parse(TrainConfig, arguments, "train.py", _defaults(arguments))
    if config.sweep is not None:
        from searchrl.cli.sweep import train_sweep

        train_sweep(config)
        return
    from searchrl.experiment.parts import Workbench

    data = replace(config.data, dataset=config.data.datasets[0])
    with closing(Workbench(data, config.models, config.game, config.learning.seed)) as bench:
        _train_on(config, bench)


def _train_on(config: TrainConfig, bench: Workbench) -> None:
    from searchrl.agent.run_dir import open_run
    from searchrl.cli import describe
    from searchrl.cli.publish import check_target
    from searchrl.env.graph import join

    benches = prepare(config, bench)
    check_target(config.output.checkpoint_dir)
    run = open_run(config, bench.computed)
    print(f"run: {run.path}")
    try:
        train, dev = graphs(benches)
        trainer, identity = learn(config, bench, run, join(train), join(dev))
        for one, graph in zip(benches, dev, strict=True):
            if len(benches) > 1:
                print(describe.dataset(one))
            print(describe.final(one, trainer, graph, identity.best_fixed))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or "go on with the same command and --resume") from None
    print(f"checkpoints: {config.output.checkpoint_dir}/policy_final.pt, policy_best.pt (copies of {run.checkpoints})")


def prepare(config: TrainConfig, bench: Workbench) -> list[Workbench]:
    """The collections to train on, the one of ``bench`` first, told and checked.

    Whatever can be wrong is found before a folder is made and the long work begins.
    """
    from searchrl.cli import describe
    from searchrl.env.features import members

    members(config.learning.hide)
    print(describe.models(bench))
    benches: list[Workbench] = []
    for name in config.data.datasets:
        one = bench.beside(name) if benches else bench  # beside it only once it has its models, to share them
        print(describe.dataset(one))
        one.check(["train", "dev"])
        benches.append(one)
    return benches


def graphs(benches: Sequence[Workbench]) -> tuple[list[SearchGraph], list[SearchGraph]]:
    """Train and dev graph of each collection, and what there is to learn on them."""
    from searchrl.cli import describe

    train, dev = [], []
    for one in benches:
        train.append(one.graph("train"))
        dev.append(one.graph("dev"))
        print(describe.judge(one, train[-1]))
        print(describe.headroom(one, {"train": train[-1], "dev": dev[-1]}))
    return train, dev


def _defaults(arguments: Sequence[str]) -> TrainConfig:
    """``--config FILE`` sets the defaults that the other flags change."""
    for i, argument in enumerate(arguments):
        if argument == "--config" and i + 1 < len(arguments):
            return read_config(Path(arguments[i + 1]))
        if argument.startswith("--config="):
            return read_config(Path(argument.partition("=")[2]))
    return TrainConfig()


def learn(
    config: TrainConfig, bench: Workbench, run: RunDir, train: SearchGraph, dev: SearchGraph, share: bool = True
) -> tuple[Trainer, PolicyCheckpoint]:
    """Train a policy on one graph, watched by another, in a run's folder; ``share``: copy it to --checkpoint-dir."""
    from searchrl.agent import strategies
    from searchrl.agent.trainer import Trainer
    from searchrl.cli import describe
    from searchrl.cli.describe import human_first
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
        recorder.finish(share)
    return trainer, identity
