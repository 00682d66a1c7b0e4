"""How long a training command takes before it does anything: Python and its libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.clock import once

START = """
import tyro, bm25s, scipy.stats, pytrec_eval
from searchrl.agent import run_dir
from searchrl.cli import describe, publish, recorder
import torch
torch.optim.AdamW([torch.zeros(1)])  # the first optimizer imports torch's compiler
"""
"""What every ``train.py`` imports, though all its graphs are stored. Encoder and language model bring more."""


def startup_seconds() -> float:
    """Seconds of a new process that imports just that; here, most of it is imported already."""
    places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(place for place in places if place)}
    _, took = once(lambda: subprocess.run([sys.executable, "-c", START], check=True, env=environment))
    return took
