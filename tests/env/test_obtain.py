from __future__ import annotations

import re

import pytest

from searchrl.env.build import build_bar


def test_a_bar_for_each_stage_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with build_bar("search graph, train") as bar:
        for done in range(4):
            bar("playing", "situation", done * 10, 40)
        bar("ranking", "situation", 0, 40)
    shown = capsys.readouterr().err
    assert "search graph, train: playing:   0%" in shown
    assert "search graph, train: ranking:   0%" in shown


def test_speed_and_time_left_are_those_of_real_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half was there already; ten more in a second are ten a second, and ten left take a second more."""
    from tqdm import tqdm

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    now = [100.0]
    monkeypatch.setattr(tqdm, "monitor_interval", 0)
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with build_bar("graph") as bar:
        bar("playing", "situation", 980, 1000)
        now[0] += 1.0
        bar("playing", "situation", 990, 1000)
    last = re.split(r"[\r\n]", capsys.readouterr().err)
    assert any(re.search(r"99%.*990/1000 \[00:01<00:01, +10\.00situation/s\]", line) for line in last), last


def test_nothing_is_shown_for_what_is_only_loaded_or_unwanted(capsys: pytest.CaptureFixture[str]) -> None:
    with build_bar("graph"):
        pass
    with build_bar("graph", show=False) as bar:
        bar("playing", "situation", 0, 10)
        bar("playing", "situation", 10, 10)
    assert capsys.readouterr().err == ""
