"""The folder of a training run: what was asked for, how far it came, and whether another command may go on with it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from searchrl.config_file import differences
from searchrl.errors import CheckpointError, OutputError
from searchrl.files import write_text


class RunFolder:
    """A run's folder, and what lies in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "training.json"
        """What was asked for, and fingerprints of data and model."""
        self.base = path / "base"
        """The model that got a new head."""
        self.before = path / "before.json"
        """Quality before training."""
        self.curves = path / "tensorboard"
        self.adapter = path / "adapter"
        """The trained adapter, head included."""
        self.merged = path / "merged"
        """The model with the adapter worked in."""
        self.metrics = path / "metrics.json"
        """Quality before, during and after, time and memory; written last."""

    def check(self) -> None:
        """Raise OutputError where the folder is something else than a run's. Changes nothing."""
        try:
            if self.path.exists() and not self.path.is_dir():
                raise OutputError(f"{self.path}: is a file; give a folder with output_dir")
            known = self.settings.exists() or self.base.exists()
            if self.path.is_dir() and any(self.path.iterdir()) and not known:
                raise OutputError(f"{self.path}: is not empty and not a training run; give another output_dir")
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be read ({error.strerror or error})") from error

    def open(self, overwrite: bool) -> None:
        """Make the folder, or empty it of another run. Raises OutputError where that cannot be."""
        try:
            if overwrite and self.settings.exists():
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror or error})") from error

    def agree(self, wanted: Mapping[str, Any]) -> None:
        """Note what is asked for, or raise CheckpointError where the run here was asked for something else."""
        plain = json.loads(json.dumps(wanted))
        if not self.settings.exists():
            write_text(self.settings, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
            return
        changed = differences(_read(self.settings), plain)
        if changed:
            raise CheckpointError(
                f"{self.path}: holds another run: {'; '.join(changed)}; give another output_dir, or set overwrite"
            )

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that was written whole; what a kill left of others is removed."""
        whole = []
        for folder in self.path.glob("checkpoint-*"):
            try:
                state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))  # written last
                whole.append((int(state["global_step"]), folder))
            except (OSError, ValueError, KeyError, TypeError):
                shutil.rmtree(folder, ignore_errors=True)
        return max(whole)[1] if whole else None

    def finished(self) -> dict[str, Any] | None:
        """What ``metrics.json`` says, where the run came to its end."""
        with contextlib.suppress(FileNotFoundError):
            return _read(self.metrics)
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); set overwrite, or another output_dir") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not what was written; set overwrite, or another output_dir")
    return content
