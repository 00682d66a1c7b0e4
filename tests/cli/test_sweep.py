"""``train.py --sweep``: every value's run is the run that the value would have had alone, on the same graphs."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from searchrl.agent.optimizer import AdamW
from searchrl.agent.trainer import Trainer
from searchrl.config import GameConfig, LearningConfig, TrainConfig
from searchrl.config_file import read_config
from searchrl.env.build import obtain_graph
from searchrl.env.graph import SearchGraph
from searchrl.errors import ConfigError
from searchrl.experiment.sweep import read_sweep
from tests.command import Outcome, Shell, assert_same_weights, files

SHORT = ["--episodes", "256", "--eval-every", "128", "--checkpoint-every", "128"]
VALUES = {"0": "0", ".01": "0.01", "1": "1"}
"""As typed, and as written."""


@pytest.fixture(scope="module")
def swept(
    flags: list[str], command_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Shell, Outcome, int]:
    """A sweep over step penalties; how often a graph was built or loaded."""
    place = Shell(tmp_path_factory.mktemp("swept"), command_cache)
    obtained = []

    def counted(*arguments: Any) -> SearchGraph:
        obtained.append(1)
        return obtain_graph(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("searchrl.env.build.obtain_graph", counted)
        outcome = place.train(*flags, *SHORT, "--sweep", f"step-penalty={','.join(VALUES)}").ok
    return place, outcome, len(obtained)


def folder_of(place: Shell, setting: str = "step-penalty") -> Path:
    return place.folder / "runs" / f"small-{setting}-001"


def table_of(outcome: Outcome) -> dict[str, list[str]]:
    lines = outcome.out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("dev queries, policy_final.pt"))
    return {line.split()[0]: line.split()[1:] for line in lines[at + 3 :] if not line.startswith("sweep:")}


def test_one_run_and_one_row_a_value_on_the_same_graphs(swept: tuple[Shell, Outcome, int]) -> None:
    place, outcome, obtained = swept
    assert obtained == 2, "train and dev"
    folder = folder_of(place)
    runs = {path.name for path in folder.iterdir() if path.is_dir()}
    assert runs == {f"step-penalty={value}" for value in VALUES.values()}
    for value in VALUES.values():
        run = folder / f"step-penalty={value}"
        assert {"policy_final.pt", "policy_best.pt"} <= {p.name for p in (run / "checkpoints").iterdir()}
        assert list(run.glob("events.out.tfevents*"))
        recorded = read_config(run / "config.json")
        assert recorded.game.step_penalty == float(value)
        assert recorded.sweep is None
    assert not (place.folder / "checkpoints").exists(), "a sweep leaves the shared policies alone"
    assert list(table_of(outcome)) == list(VALUES.values())
    assert outcome.out.count("headroom") == 1


def test_table_csv_and_json_agree(swept: tuple[Shell, Outcome, int]) -> None:
    place, outcome, _ = swept
    folder = folder_of(place)
    table = table_of(outcome)
    found = json.loads((folder / "sweep.json").read_text())
    rows = list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))
    assert (found["setting"], found["split"], found["queries"], found["dataset"]) == (
        "step-penalty",
        "dev",
        12,
        "small",
    )
    for row, value in zip(rows, found["rows"], strict=True):
        assert float(row["step-penalty"]) == value["value"]
        cells = [f"{value['nDCG@10']:.4f}", *(f"{value[cost]:.2f}" for cost in ("searches", "LM calls", "steps"))]
        assert table[row["step-penalty"]] == cells
        assert float(row["nDCG@10"]) == value["nDCG@10"]
    dear = found["rows"][-1]
    assert (dear["searches"], dear["steps"]) == (1.0, 2.0), "no gain is worth a step that costs 1"


def test_each_run_is_the_one_it_would_have_been_alone(
    swept: tuple[Shell, Outcome, int], shell: Shell, flags: list[str]
) -> None:
    alone = shell.train(*flags, *SHORT, "--step-penalty", ".01").ok
    run = folder_of(swept[0]) / "step-penalty=0.01"
    for name in ("policy_final.pt", "policy_best.pt"):
        assert_same_weights(run / "checkpoints" / name, shell.folder / "checkpoints" / name)
    agent = next(line for line in alone.out.splitlines() if line.startswith("rl_agent")).split()
    row = table_of(swept[1])["0.01"]
    assert [agent[1], agent[5], agent[6], agent[4]] == row, "the row is that run's own table's"


def test_seeds_share_the_dev_queries_and_have_a_spread(
    shell: Shell, flags: list[str], small_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "small"  # without a dev split: the seed decides which queries it takes
    shutil.copytree(small_folder, folder)
    (folder / "qrels" / "dev.tsv").unlink()
    mine = [*flags, *SHORT, "--dataset", folder]
    outcome = shell.train(*mine, "--sweep", "seed=1,2", "--seed", "7").ok
    assert "taken out with seed 7" in outcome.out
    table = table_of(outcome)
    assert list(table) == ["1", "2", "mean", "sd", "min", "max"]
    mean = (float(table["1"][0]) + float(table["2"][0])) / 2
    assert float(table["mean"][0]) == pytest.approx(mean, abs=1e-4)
    run = folder_of(shell, "seed") / "seed=2"
    recorded = read_config(run / "config.json")
    assert (recorded.learning.seed, recorded.data.split_seed) == (2, 7)
    again = shell.train(*mine, "--seed", "2", "--split-seed", "7").ok
    assert "taken out with seed 7" in again.out
    assert_same_weights(run / "checkpoints" / "policy_final.pt", shell.folder / "checkpoints" / "policy_final.pt")


def test_several_collections_count_the_same(shell: Shell, flags: list[str], small_folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(small_folder, tmp_path / "other")
    lines = (other / "qrels" / "dev.tsv").read_text().splitlines(True)
    (other / "qrels" / "dev.tsv").write_text("".join(lines[:3]))
    outcome = shell.train(*flags, *SHORT, "--dataset", f"{small_folder},{other}", "--sweep", "seed=1").ok
    folder = shell.folder / "runs" / "small+other-seed-001"
    row = json.loads((folder / "sweep.json").read_text())["rows"][0]
    assert row["nDCG@10"] == pytest.approx((row["small nDCG@10"] + row["other nDCG@10"]) / 2)
    assert table_of(outcome)["1"][-1] == f"{row['other nDCG@10']:.4f}"


def test_a_setting_of_the_game_has_graphs_of_its_own(shell: Shell, flags: list[str]) -> None:
    outcome = shell.train(*flags, *SHORT, "--sweep", "max_steps=2,4").ok
    assert outcome.out.count("headroom") == 2
    table = table_of(outcome)
    assert table["2"][1] == "1.00", "two steps are one search"


def test_an_interrupted_sweep_goes_on(
    swept: tuple[Shell, Outcome, int], shell: Shell, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*flags, *SHORT, "--sweep", "step-penalty=0,0.01,1.0"]
    steps: list[int] = []

    def press(optimizer: AdamW) -> None:
        steps.append(1)
        if len(steps) == 6:  # four updates a value
            signal.raise_signal(signal.SIGINT)
        step(optimizer)

    step = AdamW.step
    with monkeypatch.context() as patch:
        patch.setattr(AdamW, "step", press)
        stopped = shell.train(*command)
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1].endswith("go on with the same command and --resume")
    folder = folder_of(shell)
    assert [row["value"] for row in json.loads((folder / "sweep.json").read_text())["rows"]] == [0.0]
    (folder / "step-penalty=1").mkdir()  # as a kill between two system calls leaves it
    first = files(folder / "step-penalty=0")
    went_on = shell.train(*command, "--resume").ok
    assert f"sweep: runs/{folder.name}" in went_on.out
    assert "finished before: runs/small-step-penalty-001/step-penalty=0\n" in went_on.out
    assert "resumed at episode 128" in went_on.out
    assert files(folder / "step-penalty=0") == first, "what was finished is left alone"
    whole = folder_of(swept[0])
    for value in VALUES.values():
        name = f"step-penalty={value}/checkpoints/policy_final.pt"
        assert_same_weights(folder / name, whole / name)
    for name in ("sweep.csv", "sweep.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert table_of(went_on) == table_of(swept[1])
    assert table_of(shell.train(*command, "--resume").ok) == table_of(swept[1]), "nothing left to do"


def test_another_sweep_is_not_resumed(shell: Shell, flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "run", lambda *_: None)
    shell.train(*flags, *SHORT, "--sweep", "lr=.001,.002").ok  # noqa: B018
    error = shell.train(*flags, *SHORT, "--sweep", "lr=.001,.003", "--resume").error
    assert "sweep: 'lr=0.001,0.002' then, 'lr=0.001,0.003' now" in error
    assert "sweep" in shell.train(*flags, *SHORT, "--resume").error, "nor is a plain run"
    outcome = shell.train(*flags, *SHORT, "--sweep", "lr=.001,.002").ok
    assert "sweep: runs/small-lr-002" in outcome.out, "a new one has a folder of its own"


def test_every_numeric_setting_can_be_swept() -> None:
    settings = {"seed": "3", "lr": "0.01", "episodes": "64", "hidden": "8", "entropy": "0", "anchor": "1"}
    for name, text in settings.items():
        (point,) = read_sweep(TrainConfig(sweep=f"{name}={text}")).points
        owner = point.config.game if name == "anchor" else point.config.learning
        assert getattr(owner, name) == float(text)
        assert point.value == text
    texts = "1e-05,0.1234567,3.0"
    assert str(read_sweep(TrainConfig(sweep=f"step_penalty= {texts}"))) == "step-penalty=1e-05,0.1234567,3"


def test_only_graph_settings_ask_for_other_graphs() -> None:
    default = TrainConfig()
    for setting in ("step-penalty=.5", "seed=1", "lr=1", "entropy=0"):
        (point,) = read_sweep(TrainConfig(sweep=setting)).points
        assert point.graph_settings == read_sweep(TrainConfig(sweep="seed=9")).points[0].graph_settings
    for setting in ("anchor=.5", "max-steps=3", "judge-depth=20", "depth=20"):
        (point,) = read_sweep(TrainConfig(sweep=setting)).points
        assert point.graph_settings != default.game
    assert (default.game, default.learning) == (GameConfig(), LearningConfig())


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("step-penalty", "write NAME=VALUE"),
        ("", "write NAME=VALUE"),
        ("ancor=1", "did you mean 'anchor'"),
        ("policy=gru,mlp", "'policy' is not a setting with numbers"),
        ("mask=0,1", "'mask' is not a setting with numbers"),
        ("dataset=1", "'dataset' is not a setting with numbers"),
        ("seed=1,two", "'two' is not an integer"),
        ("seed=1.5", "'1.5' is not an integer"),
        ("lr=", "'' is not a number"),
        ("lr=.1,,.2", "'' is not a number"),
        ("lr=nan", "'nan' is not a finite number"),
        ("lr=.1,0.10", "0.1 is given twice"),
        ("step-penalty=0,-1", "`step_penalty` -1.0: must be at least 0"),
        ("batch-size=64,10", "not a multiple of `rollouts`"),
    ],
)
def test_what_cannot_be_swept(sweep: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_sweep(TrainConfig(learning=LearningConfig(estimator="reinforce"), sweep=sweep))


def test_a_wrong_sweep_leaves_nothing_behind(shell: Shell, flags: list[str]) -> None:
    assert "--sweep seed=x" in shell.train(*flags, "--sweep", "seed=x").error
    assert "start one without --resume" in shell.train(*flags, "--sweep", "seed=1", "--resume").error
    assert not (shell.folder / "runs").exists()


def test_ray_trains_the_same_policies(swept: tuple[Shell, Outcome, int], shell: Shell, flags: list[str]) -> None:
    """In tasks of two processes; nothing but the processes is another."""
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    outcome = shell.train(*flags, *SHORT, "--sweep", f"step-penalty={','.join(VALUES)}", "--ray", "local").ok
    ray.shutdown()
    assert table_of(outcome) == table_of(swept[1])
    for value in VALUES.values():
        name = f"step-penalty={value}/checkpoints/policy_final.pt"
        assert_same_weights(folder_of(shell) / name, folder_of(swept[0]) / name)
