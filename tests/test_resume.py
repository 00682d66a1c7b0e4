"""A run that was stopped, by whatever and whenever, goes on to the very same weights, and never as another run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch

from searchrl.agent.checkpoint import PolicyCheckpoint
from searchrl.agent.optimizer import AdamW
from searchrl.agent.run_dir import RunDir
from searchrl.agent.trainer import Trainer
from searchrl.config import LearningConfig, OutputConfig, TrainConfig
from searchrl.config_file import to_json
from searchrl.env.graph import GraphTensors, RewardRules
from searchrl.experiment.recorder import Recorder
from tests.command import REPOSITORY, Shell, assert_same_weights, metrics
from tests.toy import toy_graph

LONG = ["--episodes", "6400", "--eval-every", "1280"]
"""About twenty updates between two saves."""
SECONDS = 300


def same_end(one: Path, other: Path) -> None:
    """Two runs left the same policies and metrics."""
    names = sorted(path.name for path in (one / "checkpoints").iterdir())
    assert names == sorted(path.name for path in (other / "checkpoints").iterdir())
    assert {"policy_best.pt", "policy_final.pt"} <= set(names)
    for name in names:
        assert_same_weights(one / "checkpoints" / name, other / "checkpoints" / name)
    assert metrics(one) == metrics(other)


@pytest.fixture(scope="module")
def whole(flags: list[str], command_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupts."""
    place = Shell(tmp_path_factory.mktemp("whole"), command_cache)
    place.train(*flags, *LONG).ok  # noqa: B018
    return place.folder / "runs" / "small-001"


def begun(run: Path) -> bool:
    return (run / "versions.json").exists()


def saved_twice(run: Path) -> bool:
    lines = len((run / "metrics.jsonl").read_text().splitlines()) if (run / "metrics.jsonl").exists() else 0
    return lines >= 2 and (run / "state.pt").stat().st_mtime_ns > (run / "metrics.jsonl").stat().st_mtime_ns


@pytest.mark.parametrize("moment", [begun, saved_twice])
def test_a_killed_run_goes_on_to_the_same_end(
    moment: Callable[[Path], bool], shell: Shell, flags: list[str], whole: Path
) -> None:
    command = [sys.executable, str(REPOSITORY / "train.py"), *flags, *LONG]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums in another order end in other bits
    run = shell.folder / "runs" / "small-001"
    with (shell.folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=shell.folder, env=shell.environment | threads, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + SECONDS
            while not moment(run):
                assert process.poll() is None, (shell.folder / "log").read_text()
                assert time.monotonic() < deadline, "training did not begin in time"
                time.sleep(0.005)
            time.sleep(0.03)
        finally:
            process.kill()
            assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not (run / "checkpoints" / "policy_final.pt").exists()
    went_on = shell.train(*flags, *LONG, "--resume").ok
    assert f"run: {run.relative_to(shell.folder)}" in went_on.out
    assert ("resumed at episode" in went_on.out) == (moment is saved_twice)
    same_end(run, whole)
    for policy in (run / "checkpoints").iterdir():
        assert policy.read_bytes() == (whole / "checkpoints" / policy.name).read_bytes(), "how it was learned, too"
    assert [path.name for path in run.parent.iterdir()] == [run.name]


class Death(BaseException):
    """Stands for a SIGKILL: nothing handles it."""


def toy_training(folder: Path, resume: bool) -> RunDir:
    """What ``train.py`` does once it has a graph, on a small one."""
    graph = toy_graph(n=12)
    learning = LearningConfig(episodes=128, batch_size=32, eval_every=64, checkpoint_every=64, hidden=8, seed=3)
    output = OutputConfig(runs_dir=folder, checkpoint_dir=folder / "checkpoints", resume=resume)
    config = TrainConfig(learning=learning, output=output)
    tensors = GraphTensors(graph, RewardRules("qrels"))
    trainer = Trainer(tensors, tensors, learning, graph.dim)
    identity = PolicyCheckpoint(trainer.policy, to_json(config), "toy", "none", graph.feature_names, 0, None, [0, 3])
    run = RunDir(folder / "run")
    recorder = Recorder(run, learning.checkpoint_every, output.checkpoint_dir, resume)
    with closing(recorder):
        recorder.on_start(trainer, identity)
        trainer.run(recorder.on_update)
        recorder.on_end()
    return run


def test_death_at_any_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is renamed into place: die right before and right after each of these moments."""
    replace = Path.replace
    left = [10**9]

    def dying(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] == 0:
            raise Death
        moved = replace(self, target)
        left[0] -= 1
        if left[0] == 0:
            raise Death
        return moved

    monkeypatch.setattr(Path, "replace", dying)
    reference = toy_training(tmp_path / "whole", resume=False).path
    moments = 10**9 - left[0]
    assert moments > 20
    for moment in range(1, moments + 1):
        folder = tmp_path / str(moment)
        left[0] = moment
        with pytest.raises(Death):
            toy_training(folder, resume=False)
        if (folder / "run" / "metrics.jsonl").exists():
            with (folder / "run" / "metrics.jsonl").open("a") as file:
                file.write('{"episode": 6')  # and in the middle of a line
        left[0] = 10**9
        run = toy_training(folder, resume=True).path
        same_end(run, reference)
        published = {path.name for path in (folder / "checkpoints").glob("policy_*.pt")}
        assert published == {path.name for path in (run / "checkpoints").glob("policy_*.pt")}
        shutil.rmtree(folder)


def test_ctrl_c_in_the_middle_of_an_update_saves_and_says_how_to_go_on(
    shell: Shell, flags: list[str], trained: tuple[Shell, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def press(optimizer: AdamW) -> None:
        """After the batch was drawn and before the weights moved: what a naive save would get wrong."""
        steps.append(1)
        if len(steps) == 7:
            signal.raise_signal(signal.SIGINT)
        step(optimizer)

    step = AdamW.step
    with monkeypatch.context() as patch:
        patch.setattr(AdamW, "step", press)
        stopped = shell.train(*flags)
    assert stopped.code == 130
    assert len(steps) == 7, "it stops at once"
    last = stopped.err.splitlines()[-1]
    assert last == "interrupted: saved at episode 448; go on with the same command and --resume"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert "resumed at episode 448" in shell.train(*flags, "--resume").ok.out
    same_end(shell.folder / "runs" / "small-001", trained[0].folder / "runs" / "small-001")


def test_ctrl_c_while_the_graph_is_built_says_how_to_go_on(
    shell: Shell, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from searchrl.env.game import Game

    own = [*flags, "--max-steps", "3", "--depth", "37"]  # a graph that no other test has stored
    with monkeypatch.context() as patch:
        patch.setattr(Game, "advance", lambda *_: signal.raise_signal(signal.SIGINT))
        stopped = shell.train(*own)
    assert stopped.code == 130
    assert "--resume" in stopped.err.splitlines()[-1]
    assert "run: runs/small-001" in shell.train(*own, "--resume").ok.out


def test_refused_when_the_settings_changed(shell: Shell, flags: list[str], trained: tuple[Shell, object]) -> None:
    shutil.copytree(trained[0].folder / "runs", shell.folder / "runs")
    before = (shell.folder / "runs" / "small-001" / "metrics.jsonl").read_bytes()
    for name in ([], ["--run-name", "small-001"]):
        error = shell.train(*flags, "--resume", *name, "--lr", "0.001", "--max-steps", "3").error
        assert str(Path("runs") / "small-001") in error
        assert "learning.lr: 0.0003 then, 0.001 now" in error
        assert "game.max_steps: 5 then, 3 now" in error
        assert "learning.seed" not in error, "only what differs"
    assert (shell.folder / "runs" / "small-001" / "metrics.jsonl").read_bytes() == before
    assert [path.name for path in (shell.folder / "runs").iterdir()] == ["small-001"]


def test_where_results_go_may_change(shell: Shell, flags: list[str], trained: tuple[Shell, object]) -> None:
    shutil.copytree(trained[0].folder / "runs", shell.folder / "results")
    moved = shell.train(*flags, "--resume", "--runs-dir", "results", "--checkpoint-dir", "elsewhere").ok
    assert "resumed at episode 1280" in moved.out
    same_end(shell.folder / "results" / "small-001", trained[0].folder / "runs" / "small-001")
    assert (shell.folder / "elsewhere" / "policy_final.pt").exists()


def test_the_newest_unfinished_run_of_this_configuration_is_taken(
    shell: Shell, flags: list[str], trained: tuple[Shell, object]
) -> None:
    original = trained[0].folder / "runs" / "small-001"
    unfinished = shell.folder / "runs" / "unfinished"
    for name in ("other settings", "finished", "unfinished", "damaged", "somebody's"):
        shutil.copytree(original, shell.folder / "runs" / name)
    (unfinished / "checkpoints" / "policy_final.pt").unlink()
    (shell.folder / "runs" / "damaged" / "config.json").write_text('{"data": {')
    (shell.folder / "runs" / "somebody's" / "config.json").write_text("[1, 2]")
    other = shell.folder / "runs" / "other settings" / "config.json"
    changed = json.loads(other.read_text())
    changed["learning"]["seed"] = 7
    other.write_text(json.dumps(changed))
    for age, name in enumerate(("unfinished", "finished", "other settings")):
        os.utime(shell.folder / "runs" / name / "config.json", (1e9 + age, 1e9 + age))
    assert "run: runs/unfinished" in shell.train(*flags, "--resume").ok.out
    same_end(unfinished, original)


def test_nothing_to_resume(shell: Shell, flags: list[str]) -> None:
    assert "start one without --resume" in shell.train(*flags, "--resume").error
    assert "start one without --resume" in shell.train(*flags, "--resume", "--run-name", "mine").error
    assert "plain folder name" in shell.train(*flags, "--resume", "--run-name", "../mine").error
    assert not (shell.folder / "runs").exists()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("state.pt", lambda content: content[: len(content) // 2]),
        ("state.pt", lambda content: b"not torch"),
        ("config.json", lambda content: content[: len(content) // 2]),
        ("config.json", lambda content: b"[]"),
    ],
)
def test_a_damaged_run_is_named(
    shell: Shell, flags: list[str], trained: tuple[Shell, object], name: str, damage: Callable[[bytes], bytes]
) -> None:
    shutil.copytree(trained[0].folder / "runs", shell.folder / "runs")
    path = shell.folder / "runs" / "small-001" / name
    path.write_bytes(damage(path.read_bytes()))
    assert f"runs/small-001/{name}" in shell.train(*flags, "--resume", "--run-name", "small-001").error
