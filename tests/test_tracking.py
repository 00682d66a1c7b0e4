from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from searchrl.errors import ConfigError
from searchrl.tracking import check_tracker, open_tracker
from tests.command import Shell

CURVE = {"train/return": 0.25, "dev/nDCG@10": 0.5}


def read_tensorboard(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def tell(name: Any, folder: Path) -> None:
    tracker = open_tracker(name, folder, "first")
    tracker.note("report", "report.html")
    tracker.log(CURVE, 10)
    tracker.log(CURVE, 20)
    tracker.close()


def test_tensorboard(tmp_path: Path) -> None:
    tell("tensorboard", tmp_path)
    found = read_tensorboard(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("dev/nDCG@10")] == [(10, 0.5), (20, 0.5)]


def test_nobody_is_told(tmp_path: Path) -> None:
    tell("none", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("default")  # MLflow's own
def test_mlflow_in_a_file_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="an extra that nothing else needs: pip install mlflow")
    pytest.importorskip("alembic", reason="mlflow-skinny keeps no SQLite file")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tell("mlflow", tmp_path)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("searchrl").experiment_id])
    assert run.data.metrics == {"train/return": 0.25, "dev/nDCG-10": 0.5}
    assert run.data.tags["report"] == "report.html"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/return")] == [10, 20]


@pytest.mark.filterwarnings("default")  # Weights & Biases' own
def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="an extra that nothing else needs: pip install wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    tell("wandb", tmp_path)
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 1


@pytest.mark.filterwarnings("default")  # Trackio's own
def test_trackio_without_an_account(tmp_path: Path) -> None:
    """In a process of its own: where Trackio keeps its runs is settled when it is imported."""
    import os
    import subprocess
    import sys

    pytest.importorskip("trackio", reason="an extra that nothing else needs: pip install trackio")
    code = "from tests.test_tracking import tell; from pathlib import Path; tell('trackio', Path('.'))"
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert list(tmp_path.rglob("*.db")) or list(tmp_path.rglob("*.jsonl"))


def test_training_and_evaluation_tell_the_tracker(flags: list[str], shell: Shell) -> None:
    shell.train(*flags, "--tracker", "none", "--run-name", "quiet").ok  # noqa: B018
    assert not list((shell.folder / "runs/quiet").glob("events*"))
    shell.eval("--tracker", "tensorboard", "--also", "P@5", "--device", "cpu", "--output-dir", "results").ok  # noqa: B018
    found = read_tensorboard(shell.folder / "results")
    assert {"test/nDCG@10/rl_agent", "test/P@5/oracle"} <= set(found.Tags()["scalars"])
    assert "results" in str(found.Tensors("report/text_summary")[0].tensor_proto.string_val[0])


def test_a_tracker_that_is_missing_is_said_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        check_tracker("wandb")
