"""What of the benchmark takes no language model; the whole of it takes minutes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from searchrl.assemble import Workbench
from searchrl.cli import sections
from searchrl.cli.sections import Sections
from tests.command import REPOSITORY, Shell


@pytest.mark.parametrize("command", ["benchmark", "generate_queries"])
def test_help_says_what_the_command_does_today(command: str, tmp_path: Path) -> None:
    script = REPOSITORY / f"{command}.py"
    done = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert f"usage: {command}.py" in done.stdout
    assert ("10,000 episodes" if command == "benchmark" else 'type "single" only') in re.sub(r"\s+", " ", done.stdout)
    assert not list(tmp_path.iterdir())


def test_rates_and_rows_of_what_needs_no_language_model(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in {"ENCODED": 4, "WARM_UPDATES": 1, "UPDATES": 4}.items():
        monkeypatch.setattr(sections, name, small)
    measured = Sections(bench, bench.queries("dev").take(3), seed=1)
    rows = [*measured.retriever(), *measured.policy_forward(), *measured.training()]
    assert all(row.value >= 0 for row in rows)
    assert {row.unit for row in rows} == {"s", "ms", "ms/query", "documents/s", "queries/s", "episodes/s"}
    assert all(measured.rates[name] > 0 for name in ("documents", "queries", "episodes"))
    assert "transformers_lm" not in bench.__dict__


def test_the_workload_is_that_of_training(bench: Workbench) -> None:
    queries = bench.queries("dev").take(3)
    measured = Sections(bench, queries, seed=1)
    pools = measured.pools()
    assert [set(range(len(bench.dataset.corpus))) >= set(pool.tolist()) for pool in pools] == [True] * 3
    assert all(10 <= len(pool) <= 10 * len(measured.graph.tree.searched_nodes) for pool in pools)
    load = measured.workload(500)
    trained = len(bench.queries("train")) + len(bench.queries("dev"))
    assert (load.documents, load.queries, load.episodes) == (len(bench.dataset.corpus), trained, 500)
    assert load.pairs == round(trained * sum(map(len, pools)) / 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--json", "."], "is a folder; name a file with --json"),
        (["--num-queries", "0"], "--num-queries 0: must be at least 1"),
        (["--dataset", "pydcs"], "did you mean 'pydocs'"),
    ],
)
def test_mistakes_are_said_before_anything_is_measured(shell: Shell, flags: list[str], message: str) -> None:
    assert message in shell.benchmark(*flags).error
