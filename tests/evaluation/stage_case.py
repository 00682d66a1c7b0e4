"""Runs stages, and reads what they wrote and printed."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.command import Outcome, Shell


def run(shell: Shell, stage: ModuleType, *flags: object) -> Outcome:
    """``python -m STAGE FLAGS``."""
    return shell._run(stage.main, flags)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def table(outcome: Outcome) -> dict[str, dict[str, str]]:
    """Ranking -> measure -> what the table that ``embed`` and ``rerank`` print says."""
    lines = outcome.ok.out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("ranking"))
    _, *measures = lines[at].split()
    return {name: dict(zip(measures, cells, strict=True)) for name, *cells in map(str.split, lines[at + 2 :])}
