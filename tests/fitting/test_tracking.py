"""Curves: TensorBoard's always, Weights & Biases' where asked for, without a network."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.command import Shell
from tests.stage_commands import fit

SHORT = "--batch-size 8 --gradient-accumulation-steps 1 --epochs 1 --logging-steps 1 --device cpu".split()


@pytest.fixture
def command(train_file: Path, test_file: Path, head: Path) -> list[str]:
    lists = ["--dataset-list-train", str(train_file), "--dataset-list-test", str(test_file)]
    return [*lists, *SHORT, "--model-name", str(head), "--output-dir", "run", "--wandb-project", "judges"]


def test_weights_and_biases_offline(shell: Shell, command: list[str]) -> None:
    pytest.importorskip("wandb", reason="an extra that nothing else needs: pip install wandb")
    fit(shell, "train_lora", *command, "--wandb-run-name", "first").ok  # noqa: B018
    files = list((shell.folder / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 1
    assert files[0].stat().st_size > 1000
    assert any((shell.folder / "run").glob("tensorboard/events*"))


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed here")
def test_without_the_package_it_says_so_before_the_work(shell: Shell, command: list[str]) -> None:
    assert "pip install wandb" in fit(shell, "train_lora", *command).error
    assert not (shell.folder / "run").exists()
