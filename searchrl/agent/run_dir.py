"""One experiment, one folder: its settings, metrics, curves, checkpoints, and the state it can be resumed from."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from searchrl.agent.checkpoint import load_torch
from searchrl.config import TrainConfig
from searchrl.config_file import differences, to_json
from searchrl.device import FORMAT_VARIABLE
from searchrl.errors import CheckpointError, ConfigError, OutputError
from searchrl.files import file_digest, load_json, remove_leftovers, sealed, unsealed, write_bytes, write_text

# Where a run goes does not change what it computes.
_NOT_COMPARED = ("output", "config", "computed", "inputs")


@dataclass(frozen=True)
class RunDir:
    """The folder of one training run."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings: ``config.json``."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: ``metrics.jsonl``."""
        return self.path / "metrics.jsonl"

    @property
    def state(self) -> Path:
        """What training goes on from: ``state.pt``."""
        return self.path / "state.pt"

    @property
    def checkpoints(self) -> Path:
        """This run's own copies of its policies."""
        return self.path / "checkpoints"

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.checkpoints / "policy_final.pt").exists()


def open_run(
    config: TrainConfig, computed: Mapping[str, Any] | None = None, inputs: Mapping[str, str] | None = None
) -> RunDir:
    """Make a new run folder, or find the one to resume. Nothing of an earlier run is lost without --overwrite.

    computed: ``Models.computed``; inputs: what training reads -> a fingerprint. Both are recorded. Raises
    CheckpointError where the run to resume was computed in another numeric format or on other data: its episodes would
    be of two kinds.
    """
    output = config.output
    wanted = settings_of(config)
    if output.run_name is not None and (output.run_name in ("", "..") or Path(output.run_name).name != output.run_name):
        raise ConfigError(f"`run_name` {output.run_name!r}: must be a plain folder name")
    if output.resume:
        run = _find_resumable(output.runs_dir, output.run_name, wanted)
        _check_recorded(run, computed, inputs)
        remove_leftovers(run.path)
        return run
    if output.run_name is None:
        run = RunDir(next_free(output.runs_dir, config.data.label))
    else:
        run = RunDir(output.runs_dir / output.run_name)
        if run.path.exists():
            _clear(run, output.overwrite)
    try:
        run.path.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{run.path}: cannot be made ({error.strerror}); choose another `runs_dir`") from error
    recorded = to_json(config)
    for name, facts in (("computed", computed), ("inputs", inputs)):
        if facts:
            recorded[name] = dict(facts)
    write_text(run.config, json.dumps(sealed(recorded), indent=2) + "\n")
    return run


def _check_recorded(run: RunDir, computed: Mapping[str, Any] | None, inputs: Mapping[str, str] | None) -> None:
    """Refuse to go on in another numeric format or with other data; runs of earlier versions did not record theirs."""
    recorded = _read(run)
    before = recorded.get("inputs")
    if before and inputs and before != inputs:
        changed = [name for name in sorted({*before, *inputs}) if before.get(name) != inputs.get(name)]
        raise CheckpointError(
            f"{run.path}: cannot resume, the data changed since: {', '.join(changed)}; restore it, or start a new run "
            "without `resume`"
        )
    then = recorded.get("computed")
    if then and computed and (changed := differences(then["models"], computed["models"])):
        raise CheckpointError(
            f"{run.path}: cannot resume, models compute in another numeric format: {'; '.join(changed)}; set "
            f"{FORMAT_VARIABLE} or dtype as then, or start a new run"
        )


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """The settings that decide what is computed, as JSON values."""
    return _compared(to_json(config))


def append_metrics(run: RunDir, values: Mapping[str, Any]) -> None:
    """Add a line to ``metrics.jsonl``."""
    with run.metrics.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(values)) + "\n")


def cut_metrics(run: RunDir, episode: int) -> None:
    """Drop the lines beyond an episode, those that a killed run wrote after its last saved state."""
    if not run.metrics.exists():
        return
    kept = []
    for line in run.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if load_json(line)["episode"] <= episode:
                kept.append(line)
        except (ValueError, KeyError, TypeError):  # cut off in the middle of a line by the kill
            break
    write_text(run.metrics, "".join(f"{line}\n" for line in kept))


def _clear(run: RunDir, overwrite: bool) -> None:
    """Remove the run that stands in the way, if that was asked for and it is one."""
    if not run.config.is_file():
        raise OutputError(f"{run.path} exists and is not a run's folder; choose another `run_name`")
    if not overwrite:
        raise OutputError(
            f"{run.path} exists; use `overwrite` to replace that run, `resume` to go on with it, or another `run_name`"
        )
    try:
        shutil.rmtree(run.path)
    except OSError as error:
        raise OutputError(f"{run.path}: cannot be replaced ({error.strerror}); choose another `run_name`") from error


def _find_resumable(runs_dir: Path, name: str | None, wanted: dict[str, Any]) -> RunDir:
    if name is not None:
        run = RunDir(runs_dir / name)
        if not run.config.exists():
            raise CheckpointError(f"{run.path}: no run to resume there; start one without `resume`")
        if changed := differences(_recorded(run), wanted):
            raise _refusal(run, changed)
        return run
    runs = sorted((RunDir(p.parent) for p in runs_dir.glob("*/config.json")), key=lambda r: r.config.stat().st_mtime_ns)
    changes: dict[RunDir, list[str]] = {}
    for run in runs:
        with suppress(CheckpointError):  # somebody else's folder need not stand in the way
            changes[run] = differences(_recorded(run), wanted)
    if not changes:
        raise CheckpointError(f"{runs_dir}: no run to resume; start one without `resume`")
    same = [run for run, changed in changes.items() if not changed]
    if not same:
        nearest = min(reversed(list(changes)), key=lambda run: len(changes[run]))
        raise CheckpointError(
            f"{runs_dir}: no run of these settings to resume; {nearest.path} comes nearest, where these differ: "
            f"{'; '.join(changes[nearest])}; give its settings, or start a new run without `resume`"
        )
    return next((run for run in reversed(same) if not run.finished), same[-1])


def _refusal(run: RunDir, changed: list[str]) -> CheckpointError:
    return CheckpointError(
        f"{run.path}: cannot resume, the settings changed: {'; '.join(changed)}; "
        "give the settings of then, or start a new run without `resume`"
    )


def _recorded(run: RunDir) -> dict[str, Any]:
    return _compared(_read(run))


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without what changes no result: where a run goes, and which processes compute it."""
    kept = {k: v for k, v in settings.items() if k not in _NOT_COMPARED}
    models = kept.get("models")
    return {**kept, "models": {k: v for k, v in models.items() if k != "cluster"}} if isinstance(models, dict) else kept


def _read(run: RunDir) -> dict[str, Any]:
    try:
        return unsealed(load_json(run.config.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{run.config}: not the settings of a run ({error}); start a new run") from error


def seal(run: RunDir) -> dict[str, Any]:
    """What a saved state is saved with: the settings' digest, and length and digest of the metrics so far."""
    metrics = run.metrics.read_bytes() if run.metrics.exists() else b""
    return {
        "config": file_digest(run.config) if run.config.exists() else "",
        "metrics": [len(metrics), hashlib.sha256(metrics).hexdigest()],
    }


def read_metrics(run: RunDir) -> str:
    """The content of ``metrics.jsonl``. Raises CheckpointError where it is not what the saved state says it was."""
    metrics = run.metrics.read_bytes()
    if run.state.exists() and (found := json.loads(load_torch(run.state).get("seal") or "{}")):
        length, digest = found["metrics"]
        if hashlib.sha256(metrics[:length]).hexdigest() != digest:
            raise CheckpointError(f"{run.metrics}: damaged, or changed since the run was saved")
    return metrics.decode("utf-8", "replace")


def check_seal(run: RunDir, seal: Mapping[str, Any]) -> None:
    """Refuse to go on where settings or metrics are not what they were when the state was saved, and cut what the
    metrics have gained since, in a process that was killed. A state of an earlier version has no seal.
    """
    if not seal:
        return
    if seal["config"] and (not run.config.exists() or file_digest(run.config) != seal["config"]):
        raise CheckpointError(f"{run.config}: damaged, or changed since the run was saved; start a new run")
    length, digest = seal["metrics"]
    metrics = run.metrics.read_bytes() if run.metrics.exists() else b""
    if hashlib.sha256(metrics[:length]).hexdigest() != digest:
        raise CheckpointError(f"{run.metrics}: damaged, or changed since the run was saved; start a new run")
    write_bytes(run.metrics, metrics[:length])


def next_free(runs_dir: Path, stem: str) -> Path:
    """First of ``stem-001``, ``stem-002`` ... that does not exist."""
    return next(path for number in count(1) if not (path := runs_dir / f"{stem}-{number:03d}").exists())
