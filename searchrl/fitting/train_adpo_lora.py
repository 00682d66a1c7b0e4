"""``python -m searchrl.preference.train_adpo_lora``: fit a reward model to whole orders with a LoRA adapter."""

from __future__ import annotations

from collections.abc import Sequence

from searchrl.command import parse, run_command
from searchrl.fitting.train_config import TrainAdpoLoraConfig
from searchrl.fitting.train_lora import run


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.preference.train_adpo_lora``."""
    run_command(_train, arguments)


def _train(arguments: Sequence[str]) -> None:
    run(parse(TrainAdpoLoraConfig, arguments, "python -m searchrl.preference.train_adpo_lora"), "listwise")


if __name__ == "__main__":
    main()
