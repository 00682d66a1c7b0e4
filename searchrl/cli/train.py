"""``searchrl train``: train a search agent and show, on dev queries, what it is worth."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.command import held_interrupt, parse, run_command
from searchrl.config import TrainConfig
from searchrl.config_file import read_config
from searchrl.experiment.callbacks import Callback, Listener

if TYPE_CHECKING:
    from searchrl.agent.checkpoint import PolicyCheckpoint
    from searchrl.agent.trainer import Progress, Trainer
    from searchrl.experiment.collection import Collection
    from searchrl.experiment.models import Models
    from searchrl.experiment.prepare import PreparedCollection
    from searchrl.experiment.recorder import Recorder

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl train``."""
    run_command(_train, arguments)


def _train(arguments: Sequence[str]) -> None:
    config = parse(TrainConfig, arguments, "train.py", _defaults(arguments))
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
    from searchrl.experiment.models import open_models
    from searchrl.experiment.prepare import prepare_collections, read_collections
    from searchrl.experiment.publish import check_target
    from searchrl.experiment.recorder import Recorder
    from searchrl.experiment.train import train

    output, learning = config.output, config.learning
    members(learning.hide)
    with open_models(config.models, config.game, show_progress=True) as models:
        printer.on_models(models)
        collections = read_collections(config.data, learning.seed, printer)
        check_target(output.checkpoint_dir)
        run = open_run(config, models.computed)
        print(f"run: {run.path}")
        prepared = prepare_collections(collections, models, config.data, config.game, printer)
        recorder = Recorder(run, learning.checkpoint_every, output.checkpoint_dir, output.resume)
        trained = train(prepared, learning, [recorder, *printer.callbacks(recorder)], config)
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
        if argument == "--config" and i + 1 < len(arguments):
            return read_config(Path(arguments[i + 1]))
        if argument.startswith("--config="):
            return read_config(Path(argument.partition("=")[2]))
    return TrainConfig()


class Printer(Listener):
    """Prints what an experiment says."""

    show_progress = True

    def on_models(self, models: Models) -> None:
        """Device, formats, language models."""
        from searchrl.cli import describe

        print(describe.models(models))

    def on_collection(self, collection: Collection) -> None:
        """Sizes and notes."""
        from searchrl.cli import describe

        print(describe.dataset(collection))

    def on_prepared(self, part: PreparedCollection) -> None:
        """How good the reward model is, and what there is to learn."""
        from searchrl.cli import describe

        print(describe.reward_model(part))
        print(describe.headroom(part.collection, part.graphs, part.settings))

    def on_point(self, setting: str, value: str, number: int, of: int) -> None:
        """Which value a sweep has come to."""
        print(f"{setting} {value} ({number} of {of})")

    def say(self, text: str) -> None:
        """A line."""
        print(text)

    def callbacks(self, recorder: Recorder) -> Sequence[Callback]:
        """A bar, news from the dev queries, and Ctrl-C."""
        return [TrainingPrinter(recorder)]


class TrainingPrinter(Callback):
    """Shows a bar and the best looks at the dev queries, warns of collapse, and stops on Ctrl-C between two updates."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._opened = ExitStack()
        self._warned = False

    def on_start(self, trainer: Trainer, identity: PolicyCheckpoint) -> None:
        """Open the bar where training starts, and hold Ctrl-C back from now on."""
        from tqdm import tqdm

        start, total = trainer.episode, trainer.config.episodes
        if start:
            print(f"resumed at episode {start}")
        self._bar = tqdm(total=total, initial=start, desc="train", unit="episode", disable=not sys.stderr.isatty())
        self._opened.callback(self._bar.close)
        self._interrupted = self._opened.enter_context(held_interrupt())

    def on_update(self, progress: Progress) -> None:
        """Move the bar."""
        self._bar.update(progress.episode - self._bar.n)
        if progress.improved and progress.dev is not None:
            dev = progress.dev
            line = f"episode {progress.episode}: dev return {dev.score:.4f}, nDCG@10 {dev.gain:.4f} (best so far)"
            self._bar.write(line, sys.stdout)
        self._warn_of_collapse(progress)
        if self._interrupted():  # here what is saved is whole
            raise KeyboardInterrupt(self._recorder.save_state())

    def close(self) -> None:
        """Close the bar, and let Ctrl-C through again."""
        self._opened.close()

    def _warn_of_collapse(self, progress: Progress) -> None:
        from searchrl.agent.trainer import collapsed
        from searchrl.env.tree import Action

        report = progress.report
        if self._warned or not collapsed(report):
            return
        self._warned = True
        logger.warning(
            "episode %d: %.0f%% of the episodes play %s: the policy treats all queries alike and may have collapsed. A "
            "higher --entropy, a lower --step-penalty or the action mask (--mask) keep it exploring.",
            progress.episode,
            100 * report.commonest_share,
            " ".join(Action(a).name for a in report.commonest),
        )
