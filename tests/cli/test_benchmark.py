"""The whole command over a small collection and a random language model of two layers; and what it refuses."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import session
from tests.command import Shell
from tests.formats import in_force
from tests.models.conftest import random_model

TINY = replace(
    session.QUICK,
    encoded=4,
    judged=6,
    rewritten=3,
    corpora=(500, 1_000),
    searched=8,
    steps=20,
    episodes=64,
    episodes_naively=4,
    large_batch=128,
    growth_queries=(4, 8),
    growth_documents=(200, 400),
)

SECTIONS = [
    "retriever",
    "reward model initialisation",
    "search graph",
    "encoding",
    "matrix product",
    "scoring",
    "numeric formats, one thread",
    "numeric formats, agreement of the judge with float32",
    "reformulator initialisation",
    "reformulation",
    "dense search, synthetic vectors",
    "environment",
    "policy forward",
    "training",
]


def test_all_is_measured_printed_and_written(
    shell: Shell, small_folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "QUICK", TINY)
    lm = random_model(tmp_path_factory.mktemp("lm"), "llama")
    done = shell.benchmark(
        *("--quick", "--dataset", small_folder, "--device", "cpu", "--lm", lm, "--json", "out.json", "--plot", "p.png")
    ).ok
    content = json.loads((shell.folder / "out.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (shell.folder / "p.png").read_bytes().startswith(b"\x89PNG")
    assert {"machine", "load_average", "dataset", "figures", "growth", "rates", "workload"} < content.keys()
    assert content["machine"]["cpus"] == os.cpu_count()
    assert content["machine"]["dtype"] == in_force().dtype

    figures = content["figures"]
    assert list(dict.fromkeys(figure["section"] for figure in figures)) == SECTIONS
    assert all(figure.keys() == {"section", "what", "ours", "unit", "naive", "ratio"} for figure in figures)
    assert all(figure["ours"] >= 0 and figure["unit"] for figure in figures)
    raced = {figure["section"] for figure in figures if figure["ratio"]}
    assert raced >= {"encoding", "scoring", "reformulation", "environment", "training"}
    for figure in figures:
        assert f"  {figure['what']}  " in done.out, "every figure is printed, too"

    assert [growth["sizes"] for growth in content["growth"]] == [[4, 8]] * 5 + [[200, 400]] * 4
    work, estimates = content["workload"], content["estimated_seconds"]
    assert work["queries"] == 24
    assert work["pairs"] >= 24 * 10
    assert work["tokens"] > work["pairs"]
    for name in ("cold", "warm"):
        parts = dict(estimates[name])
        assert parts.pop("total") == pytest.approx(sum(parts.values()))
    assert estimates["cold"]["judging"] == pytest.approx(work["tokens"] / content["rates"]["tokens"])
    assert estimates["warm"]["judging"] == 0
    assert "10,000 episodes" in done.out


MISTAKES = {
    "--json .": "is a folder; name a file with --json",
    "--json file/x.json": "cannot be written (File exists); give another --json",
    "--plot .": "is a folder; name a file with --plot",
    "--plot file/x.png": "cannot be written (File exists); give another --plot",
    "--plot x.svg": "plot x.svg: pictures are PNG; name it x.png",
    "--num-queries 0": "--num-queries 0: must be at least 1",
    "--dataset pydcs": "did you mean 'pydocs'",
    "--lm smolm2-135m": "did you mean 'smollm2-135m'",
}


@pytest.mark.parametrize("flags", MISTAKES)
def test_mistakes_are_said_before_anything_is_measured(shell: Shell, flags: str, small_folder: Path) -> None:
    (shell.folder / "file").write_text("in the way")
    dataset = [] if "--dataset" in flags else ["--dataset", small_folder]
    assert MISTAKES[flags] in shell.benchmark(*dataset, *flags.split()).error


def test_an_installed_package_says_that_a_clone_is_needed(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("searchrl.cli.benchmark.CLONE", tmp_path)
    assert "needs a clone" in shell.benchmark("--quick").error
