"""The folder of a training run: what was asked for, how far it came, and whether another command may go on with it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searchrl.config_file import differences
from searchrl.errors import CheckpointError, OutputError
from searchrl.files import write_text


@dataclass(frozen=True)
class TrainFolder:
    """Paths in a run's folder."""

    path: Path

    @property
    def settings(self) -> Path:
        """What was asked for, and fingerprints of data and model."""
        return self.path / "training.json"

    @property
    def base(self) -> Path:
        """The model that got a new head."""
        return self.path / "base"

    @property
    def before(self) -> Path:
        """Quality before training."""
        return self.path / "before.json"

    @property
    def curves(self) -> Path:
        """TensorBoard's files."""
        return self.path / "tensorboard"

    @property
    def adapter(self) -> Path:
        """The trained adapter, head included."""
        return self.path / "adapter"

    @property
    def merged(self) -> Path:
        """The model with the adapter worked in."""
        return self.path / "merged"

    @property
    def metrics(self) -> Path:
        """Quality before, during and after, time and memory; written last."""
        return self.path / "metrics.json"

    def check(self) -> None:
        """Raise OutputError where the folder is something else than a run's. Changes nothing."""
        try:
            if self.path.exists() and not self.path.is_dir():
                raise OutputError(f"{self.path}: is a file; give a folder with --output-dir")
            known = self.settings.exists() or self.base.exists()
            if self.path.is_dir() and any(self.path.iterdir()) and not known:
                raise OutputError(f"{self.path}: is not empty and not a training run; give another --output-dir")
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
                f"{self.path}: holds another run: {'; '.join(changed)}; give another --output-dir, or --overwrite"
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
        raise CheckpointError(f"{path}: cannot be read ({error}); give --overwrite, or another --output-dir") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not what was written; give --overwrite, or another --output-dir")
    return content
