"""``python -m searchrl.preference.train_lora``: fit a reward model to preference pairs with a LoRA adapter."""

from __future__ import annotations

from collections.abc import Sequence

from searchrl.command import parse, run_command
from searchrl.fitting.losses import LossName
from searchrl.fitting.train_config import TrainLoraConfig


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.preference.train_lora``."""
    run_command(_train, arguments)


def _train(arguments: Sequence[str]) -> None:
    run(parse(TrainLoraConfig, arguments, "python -m searchrl.preference.train_lora"), "pairwise")


def run(config: TrainLoraConfig, loss: LossName) -> None:
    """Train, and print what was measured."""
    from searchrl.evaluation.stages import say
    from searchrl.fitting.train_folder import TrainFolder
    from searchrl.fitting.train_report import report
    from searchrl.fitting.training import train

    metrics = train(config, loss, say)
    say(report(metrics, TrainFolder(config.output_dir), config.lora.merge))


if __name__ == "__main__":
    main()
