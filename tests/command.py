"""Runs the commands as a user would, inside this process: own working folder, exit code, what is printed where."""

from __future__ import annotations

import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from searchrl.cli import benchmark, evaluate, generate_queries, search, train
from searchrl.evaluation import compare, embed, ndcg, rerank

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def ok(self) -> Outcome:
        """Itself, if the command came to a good end."""
        assert self.code == 0, f"exit code {self.code}: {self.err}"
        return self

    @property
    def error(self) -> str:
        """The one line that says what a user did wrong: the last line there is, exit code 2, no traceback."""
        assert self.code == 2, f"exit code {self.code}: {self.err}"
        lines = self.err.splitlines()
        assert [line for line in lines if line.startswith("error:")] == lines[-1:], self.err
        assert "Traceback" not in self.err
        return lines[-1]


@dataclass(frozen=True)
class Shell:
    """A place to type commands in: where relative paths start, and which cache is used."""

    folder: Path
    cache: Path

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the user's own collections and caches."""
        mine = {"SEARCHRL_CACHE": self.cache, "XDG_CACHE_HOME": self.cache}
        return {k: v for k, v in os.environ.items() if k != "SEARCHRL_DATA"} | {k: str(v) for k, v in mine.items()}

    def train(self, *flags: object) -> Outcome:
        """``python train.py FLAGS``."""
        return self._run(train.main, flags)

    def eval(self, *flags: object) -> Outcome:
        """``python eval.py FLAGS``."""
        return self._run(evaluate.main, flags)

    def benchmark(self, *flags: object) -> Outcome:
        """``python benchmark.py FLAGS``."""
        return self._run(benchmark.main, flags)

    def generate_queries(self, *flags: object) -> Outcome:
        """``python generate_queries.py FLAGS``."""
        return self._run(generate_queries.main, flags)

    def search(self, *flags: object) -> Outcome:
        """``searchrl search FLAGS``."""
        return self._run(search.main, flags)

    def compare(self, *flags: object) -> Outcome:
        """``python -m searchrl.evaluation.compare FLAGS``."""
        return self._run(compare.main, flags)

    def embed(self, *flags: object) -> Outcome:
        """``python -m searchrl.evaluation.embed FLAGS``."""
        return self._run(embed.main, flags)

    def rerank(self, *flags: object) -> Outcome:
        """``python -m searchrl.evaluation.rerank FLAGS``."""
        return self._run(rerank.main, flags)

    def ndcg(self, *flags: object) -> Outcome:
        """``python -m searchrl.evaluation.ndcg FLAGS``."""
        return self._run(ndcg.main, flags)

    def _run(self, main: Callable[[Sequence[str]], None], flags: Sequence[object]) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        code = 0
        with (
            patch.dict(os.environ, self.environment, clear=True),
            _working_in(self.folder),
            _fresh_logging(),
            warnings.catch_warnings(),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            warnings.simplefilter("default", UserWarning)  # every other kind stays the error that pytest makes it
            try:
                main([str(flag) for flag in flags])
            except SystemExit as stop:
                code = int(stop.code or 0)
        return Outcome(code, out.getvalue(), err.getvalue())


def assert_same_weights(one: Path, other: Path) -> None:
    """Bit for bit, which neither ``allclose`` nor, for NaN and the zeros, ``==`` would say."""
    first, second = (torch.load(path, weights_only=True)["weights"] for path in (one, other))
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].numpy().tobytes() == second[name].numpy().tobytes(), name


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl`` without their times."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _fresh_logging() -> Iterator[None]:
    """No handlers at first, so that the command sets up its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:], root.level = handlers, level
