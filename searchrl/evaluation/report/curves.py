"""The training curves behind a checkpoint, where its run's folder is still there."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from searchrl.agent.run_dir import RunDir


@dataclass(frozen=True)
class Curves:
    """What a training run noted at each look at the dev queries.

    series: name as in ``metrics.jsonl`` (``actions.narrow`` for what is nested) -> (episode, value) pairs.
    """

    run: str
    series: Mapping[str, list[tuple[float, float]]]


def find_run(checkpoint: Path, runs_dir: Path) -> RunDir | None:
    """The run that wrote a checkpoint: the folder it lies in, or the one in ``runs_dir`` that holds the same file.

    Copies are known by their content, so that another run's curves are never taken.
    """
    with suppress(OSError):
        own = RunDir(checkpoint.resolve().parent.parent)
        if own.checkpoints == checkpoint.resolve().parent and own.metrics.is_file():
            return own
        for copy in sorted(runs_dir.glob(f"*/checkpoints/{checkpoint.name}")):
            run = RunDir(copy.parent.parent)
            if run.metrics.is_file() and filecmp.cmp(checkpoint, copy, shallow=False):
                return run
    return None


def read_curves(run: RunDir) -> Curves:
    """Read ``metrics.jsonl`` up to the first line that a kill cut off; times are left out, being other every time."""
    series: dict[str, list[tuple[float, float]]] = {}
    for line in run.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
            episode = float(values.pop("episode"))
        except (ValueError, KeyError, TypeError, AttributeError):
            break
        values.pop("time", None)
        for name, value in _flat(values).items():
            series.setdefault(name, []).append((episode, value))
    return Curves(run.path.name, series)


def _flat(values: Mapping[str, object]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": number for inner, number in _flat(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    return found
