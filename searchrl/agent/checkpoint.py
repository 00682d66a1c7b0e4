"""Policies on disk: weights and what they mean, apart from each other, in one file that holds no code.

A ``.pt`` file is ``torch.save`` of tensors and one JSON string, read with ``weights_only=True``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from searchrl import __version__
from searchrl.agent.policy import Observed, Policy, PolicyKind
from searchrl.errors import CheckpointError
from searchrl.files import write_bytes

FORMAT = "searchrl-policy"


@dataclass(frozen=True)
class PolicyCheckpoint:
    """A policy and everything that must fit for it to be used."""

    policy: Policy
    config: dict[str, Any]
    """The training command's settings, as ``config.to_json`` gives them."""
    dataset: str
    """What it was trained on: one collection, or several joined by commas."""
    encoder: str
    """Fingerprint of the encoder whose embeddings the policy reads."""
    feature_names: Sequence[str]
    episode: int
    dev_score: float | None
    best_fixed: Sequence[int]
    """Actions of the fixed sequence that was best on the dev queries."""
    version: str = __version__
    computed: Mapping[str, Any] = field(default_factory=dict)
    """Processor and numeric formats of the models, as ``Workbench.computed`` has them; empty before 0.2."""


def save_policy(path: Path, checkpoint: PolicyCheckpoint) -> None:
    """Write a checkpoint whole or not at all."""
    policy = checkpoint.policy
    meta = {
        "format": FORMAT,
        "kind": policy.kind,
        "dim": policy.dim,
        "hidden": policy.hidden_size,
        "observe": policy.observe,
        "config": checkpoint.config,
        "dataset": checkpoint.dataset,
        "encoder": checkpoint.encoder,
        "feature_names": list(checkpoint.feature_names),
        "episode": checkpoint.episode,
        "dev_score": checkpoint.dev_score,
        "best_fixed": list(checkpoint.best_fixed),
        "version": checkpoint.version,
        "computed": dict(checkpoint.computed),
    }
    save_torch(path, {"meta": json.dumps(meta), "weights": policy.state_dict()})


def load_policy(path: Path) -> PolicyCheckpoint:
    """Read a checkpoint. Raises CheckpointError when it is missing, truncated or something else."""
    content = load_torch(path)
    try:
        meta = json.loads(content["meta"])
        if meta["format"] != FORMAT:
            raise KeyError("format")
        policy = Policy(
            meta["dim"],
            len(meta["feature_names"]),
            cast(PolicyKind, meta["kind"]),
            meta["hidden"],
            cast(Observed, meta["observe"]),
        )
        policy.load_state_dict(content["weights"])
        policy.eval()
        return PolicyCheckpoint(
            policy=policy,
            config=meta["config"],
            dataset=meta["dataset"],
            encoder=meta["encoder"],
            feature_names=tuple(meta["feature_names"]),
            episode=meta["episode"],
            dev_score=meta["dev_score"],
            best_fixed=tuple(meta["best_fixed"]),
            version=meta["version"],
            computed=meta.get("computed", {}),
        )
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a policy that SearchRL wrote ({error}); train one with train.py") from error


def save_torch(path: Path, content: dict[str, Any]) -> None:
    """``torch.save`` to a temporary name, then rename. Raises OutputError when the place cannot be written."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def load_torch(path: Path) -> dict[str, Any]:
    """``torch.load`` of tensors and plain values only. Raises CheckpointError when that is not what the file holds."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; train one with train.py, or name another with `checkpoint`")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what it likes on a damaged or foreign file
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]
        raise CheckpointError(f"{path}: truncated, or not a checkpoint ({reason}); train one with train.py") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a checkpoint that SearchRL wrote; train one with train.py")
    return content
