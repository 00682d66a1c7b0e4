"""Steps of a chain, each done once: a step whose settings and inputs are as they were, and whose outputs are there as
it wrote them, is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searchrl.config_file import to_json
from searchrl.errors import DataError
from searchrl.files import file_digest, write_text

NOT_COMPARED = (
    *("device", "cache", "similarity_device", "output", "output_dir", "base_url", "api_key_env", "concurrency"),
    *("request_timeout", "golden", "tensor_parallel_size", "pipeline_parallel_size"),
)
"""Settings of a step that say where and how, not what."""


@dataclass(frozen=True)
class Step:
    """One stage: what it is asked, what it reads and writes."""

    name: str
    config: Any
    run: Callable[[Any], None]
    inputs: Sequence[Path]
    """Files or folders."""
    outputs: Sequence[Path]
    """Files; the last to be written last."""


def do(step: Step, stamps: Path) -> bool:
    """Do a step unless it is done; says whether it had to be. ``stamps``: the folder that remembers."""
    stamp = stamps / f"{step.name}.json"
    wanted = json.loads(json.dumps({"settings": _settings(to_json(step.config)), "inputs": _digests(step.inputs)}))
    if _read(stamp) == {**wanted, "outputs": _digests(step.outputs)}:
        return False
    step.run(step.config)
    write_text(stamp, json.dumps({**wanted, "outputs": _digests(step.outputs)}, indent=1) + "\n")
    return True


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in values.items() if name not in NOT_COMPARED}
    return {name: _settings(value) if isinstance(value, dict) else value for name, value in kept.items()}


def _digests(paths: Sequence[Path]) -> list[list[str]]:
    """Name and SHA-256 of every file, those in folders included; an empty one where there is none."""
    found = []
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            try:
                found.append([name, file_digest(file) if file.exists() else ""])
            except OSError as error:
                raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
