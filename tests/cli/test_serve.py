"""The command that starts the service: what is wrong is said in one line, before the port opens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from benchmarks import service_load as load
from benchmarks.bench import Bench
from searchrl.cli import serve as command
from searchrl.search import server

Wrong = Callable[..., str]


def test_the_reference_knows_it_by_another_name() -> None:
    assert server.main is command.main


@pytest.fixture
def wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Wrong:
    """Run the command, which is to end with 2; gives the line that says why."""

    def run(*flags: str) -> str:
        with pytest.raises(SystemExit) as stop:
            command.main(["--corpora", str(tmp_path / "corpora"), "--device", "cpu", *flags])
        assert stop.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


def test_a_mistake_is_one_line(wrong: Wrong, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "port 70000: must lie between" in wrong("--port", "70000")
    assert "--max-batch 0: must be above 0" in wrong("--max-batch", "0")
    assert "raise max_queue" in wrong("--max-items", "9", "--max-queue", "8")
    assert "no such checkpoint" in wrong("--checkpoint", str(tmp_path / "none.pt"))
    (tmp_path / "corpora").write_text("a file")
    assert "name another corpora folder" in wrong()
    monkeypatch.setenv("SEARCHRL_TOKEN", "")
    assert "SEARCHRL_TOKEN is set but empty" in wrong()


def test_what_is_measured_must_be_something(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load.main(["--seconds", "0"])
    assert stop.value.code == 2
    assert "--seconds" in capsys.readouterr().err


def test_the_service_that_users_start(
    bench: Bench, tmp_path: Path, command_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own, with the embedded encoder: indexed before, searched by several clients, stopped."""
    monkeypatch.setenv("SEARCHRL_CACHE", str(command_cache))
    load.index(tmp_path / "corpora", bench.dataset.corpus, 10)
    figures = load.Figures()
    with load.served(tmp_path / "corpora") as port:
        asyncio.run(
            load.ask(port, "single_pass", cycle(bench.queries("test").texts), clients=3, seconds=0.2, figures=figures)
        )
    assert set(figures.statuses) == {200}
    assert len(figures.latencies) == figures.statuses[200] >= 3
    assert 0 < figures.latency(0.5) <= figures.latency(0.99) <= max(figures.latencies)
