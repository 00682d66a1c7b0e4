"""Runs ``searchrl fit STAGE`` and ``searchrl tags STAGE``, and reads what they wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from searchrl.cli import fit as fit_command
from searchrl.cli import tags as tags_command
from tests.command import Outcome, Shell


def fit(shell: Shell, stage: str, *flags: object) -> Outcome:
    """``searchrl fit STAGE FLAGS``."""
    return shell._run(fit_command.main, (stage, *flags))


def tags(shell: Shell, stage: str, *flags: object) -> Outcome:
    """``searchrl tags STAGE FLAGS``."""
    return shell._run(tags_command.main, (stage, *flags))


def read(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))
