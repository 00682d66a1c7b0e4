"""Runs of a sweep as tasks of a Ray cluster: what they train on is sent once, and lies in shared memory.

A run writes its own folder, as it does without Ray, so the sweep's folder has to be the same place on all machines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from searchrl.agent.run_dir import RunDir
from searchrl.config import RayConfig
from searchrl.experiment.callbacks import Listener
from searchrl.experiment.prepare import Prepared, inputs
from searchrl.models.ray_models import RayLM


@dataclass(frozen=True)
class Shared:
    """What all runs of a sweep have in common. Models, indexes and documents stay where they are."""

    prepared: Prepared
    folder: RunDir
    inputs: dict[str, str]
    threads: int
    """That torch computes with: the last bits of weights may depend on it."""


def share(prepared: Prepared, folder: RunDir) -> Shared:
    """What training reads of prepared collections: graphs, and the names of what made them."""
    import torch

    models = prepared.models
    for engine in models.language_models.values():
        if isinstance(engine, RayLM):
            engine.rest()  # all is judged; training takes its place
    named: Any = SimpleNamespace(
        settings=models.settings,
        computed=models.computed,
        encoder=SimpleNamespace(fingerprint=models.encoder.fingerprint),
    )
    parts = []
    for part in prepared.parts:
        game: Any = SimpleNamespace(rules=part.game.rules)
        nothing: Any = None
        parts.append(replace(part, collection=nothing, game=game))
    read = inputs([part.collection for part in prepared.parts])
    return Shared(
        replace(prepared, models=named, parts=parts), RunDir(folder.path.resolve()), read, torch.get_num_threads()
    )


def run_all(shared: Shared, points: Sequence[tuple[Any, str]], config: RayConfig) -> Iterator[RunDir]:
    """Train each point's policy in a task; their run folders, in order."""
    from searchrl.cluster import tasks

    return tasks(_run, shared, points, config)


def _run(shared: Shared, point: Any, name: str) -> RunDir:
    """In the task's process. One that died is begun again with what it left."""
    import torch

    from searchrl.experiment.sweep import train_point

    torch.set_num_threads(shared.threads)
    return train_point(point, shared.folder, name, shared.prepared, shared.inputs, Listener())
