"""Who is told the curves of an experiment: TensorBoard, or another tracker that the user runs, all by one protocol.

Nothing leaves this machine unless the tracker's own variables say so (``WANDB_MODE``, ``MLFLOW_TRACKING_URI``,
``TRACKIO_SPACE_ID``).
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from searchrl.config import TrackerName
from searchrl.errors import ConfigError

PROJECT = "searchrl"


class Tracker(Protocol):
    """One run's page."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take note of numbers after ``step`` episodes, updates or queries."""
        ...

    def note(self, name: str, text: str) -> None:
        """A fact about the run, such as where its report is."""
        ...

    def close(self) -> None:
        """Write out what is left."""
        ...


def check_tracker(name: TrackerName) -> None:
    """Raise ConfigError with the install command where a tracker's package is missing."""
    if name not in ("none", "tensorboard") and importlib.util.find_spec(name) is None:
        raise ConfigError(f"`tracker` {name}: the package is not installed: pip install {name}")


def open_tracker(name: TrackerName, folder: Path, run: str, done: int = 0) -> Tracker:
    """The page of a run. folder: the run's own, for what is written here. done: steps that a resumed run has behind it.

    Raises ConfigError where the package is missing.
    """
    check_tracker(name)
    kinds: dict[TrackerName, Callable[[Path, str, int], Tracker]] = {
        "none": Nobody,
        "tensorboard": TensorBoard,
        "trackio": Trackio,
        "wandb": WeightsAndBiases,
        "mlflow": MLflow,
    }
    return kinds[name](folder, run, done)


class Nobody:
    """Keeps nothing."""

    def __init__(self, folder: Path, run: str, done: int) -> None:
        pass

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See ``Tracker``."""

    def note(self, name: str, text: str) -> None:
        """See ``Tracker``."""

    def close(self) -> None:
        """See ``Tracker``."""


class TensorBoard:
    """Event files in the run's folder."""

    def __init__(self, folder: Path, run: str, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=done + 1 if done else None)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See ``Tracker``."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def note(self, name: str, text: str) -> None:
        """See ``Tracker``."""
        self._writer.add_text(name, text)

    def close(self) -> None:
        """See ``Tracker``."""
        self._writer.close()


class WeightsAndBiases:
    """Offline in ``wandb/`` of the run's folder, which ``wandb sync`` uploads, unless $WANDB_MODE says otherwise."""

    def __init__(self, folder: Path, run: str, done: int) -> None:
        import wandb

        project, mode = os.environ.get("WANDB_PROJECT", PROJECT), os.environ.get("WANDB_MODE", "offline")
        self._run: Any = wandb.init(project=project, name=run, dir=str(folder), mode=mode)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See ``Tracker``."""
        self._run.log(dict(values), step=step)

    def note(self, name: str, text: str) -> None:
        """See ``Tracker``."""
        self._run.config.update({name: text}, allow_val_change=True)

    def close(self) -> None:
        """See ``Tracker``."""
        self._run.finish()


class Trackio:
    """Where Trackio keeps its runs ($TRACKIO_DIR); no account. ``trackio show`` is the page."""

    def __init__(self, folder: Path, run: str, done: int) -> None:
        import trackio

        self._run: Any = trackio.init(project=PROJECT, name=run, resume="allow" if done else "never", embed=False)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See ``Tracker``."""
        self._run.log(dict(values), step=step)

    def note(self, name: str, text: str) -> None:
        """See ``Tracker``."""
        self._run.config[name] = text

    def close(self) -> None:
        """See ``Tracker``."""
        self._run.finish()


class MLflow:
    """A SQLite file in the run's folder, or the server that $MLFLOW_TRACKING_URI names."""

    def __init__(self, folder: Path, run: str, done: int) -> None:
        from mlflow import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / 'mlflow.db').resolve().as_posix()}"
        self._client: Any = MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = found.experiment_id if found else self._client.create_experiment(PROJECT)
        self._id = self._client.create_run(experiment, run_name=run).info.run_id

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See ``Tracker``; what MLflow's names cannot hold becomes a dash."""
        for name, value in values.items():
            self._client.log_metric(self._id, re.sub(r"[^\w\-. :/]", "-", name), value, step=step)

    def note(self, name: str, text: str) -> None:
        """See ``Tracker``."""
        self._client.set_tag(self._id, name, text)

    def close(self) -> None:
        """See ``Tracker``."""
        self._client.set_terminated(self._id)
