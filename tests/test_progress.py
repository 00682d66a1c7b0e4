"""Bars on terminals, a line now and then elsewhere; install commands that work."""

from __future__ import annotations

import re
import sys

import pytest

from searchrl import progress
from searchrl.extras import install_command
from searchrl.progress import progress_bar


def test_short_work_says_nothing_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar(100, "encode", "text") as bar:
        for _ in range(100):
            bar.update()
    assert capfd.readouterr().err == ""


def test_long_work_writes_lines(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    with progress_bar(3, "train", "update") as bar:
        for _ in range(3):
            bar.update()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) >= 3
    assert all(re.match(r"train: +\d+%", line) for line in lines)
    assert "\r" not in "".join(lines)


def test_a_terminal_gets_a_bar(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bar(1, "train", "update") as bar:
        bar.update()
    assert "\rtrain: 100%" in capfd.readouterr().err


def test_what_is_not_shown_counts_all_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar(1, "train", "update", show=False) as bar:
        bar.update()
    assert capfd.readouterr().err == ""


def test_an_extra_is_installed_by_the_names_of_its_packages() -> None:
    command = install_command("train")
    assert command.startswith("pip install 'trl")
    assert "'peft" in command
    assert "searchrl" not in command
    assert install_command("nonsense") == "pip install -e '.[nonsense]'"
