"""The examples run as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import REPOSITORY


@pytest.mark.parametrize(("script", "last"), [("own_documents.py", "computed:"), ("own_agent.py", "mean return of 20")])
def test_an_example_runs(script: str, last: str, small_folder: Path, command_cache: Path, tmp_path: Path) -> None:
    arguments = [str(small_folder)] if script == "own_agent.py" else []
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / script), *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "SEARCHRL_CACHE": str(command_cache)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(last)
