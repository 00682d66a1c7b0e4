"""How long things take, the figures that come of it, and the machine: what it is, how busy, how fast at matrices."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch

from searchrl.device import DeviceChoice, processor
from searchrl.evaluation.text_table import text_table

Result = TypeVar("Result")


def once(work: Callable[[], Result]) -> tuple[Result, float]:
    """Do something that can be done only once, such as loading: its result and its seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def seconds(work: Callable[[], object], repeats: int = 5, warm_ups: int = 1) -> float:
    """Median seconds of ``repeats`` calls, after ``warm_ups`` calls that do not count."""
    for _ in range(warm_ups):
        work()
    return median(once(work)[1] for _ in range(repeats))


@dataclass(frozen=True)
class Pace:
    """How one way went, round by round."""

    done: Sequence[float]
    seconds: Sequence[float]

    def rate(self, done: Sequence[float] | None = None) -> float:
        """Units a second, the median over rounds; ``done`` counts them in another unit (tokens instead of texts)."""
        return median(n / took for n, took in zip(done or self.done, self.seconds, strict=True))

    @property
    def each(self) -> float:
        """Seconds a unit."""
        return 1.0 / self.rate()


def in_turn(rounds: int, **ways: Callable[[int], float]) -> dict[str, Pace]:
    """Time several ways to the same end; in each round each takes its turn, in the order given.

    So a busy machine slows all of them alike, and their ratios stand. A way is called with the round's number and
    returns how much it did: items, tokens, operations.
    """
    done: dict[str, list[float]] = {name: [] for name in ways}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, work in ways.items():
            start = time.perf_counter()
            done[name].append(work(number))
            spent[name].append(time.perf_counter() - start)
    return {name: Pace(done[name], spent[name]) for name in ways}


@dataclass(frozen=True)
class Figure:
    """What was measured; ``naive`` is the same done one at a time (``naive.py``), where there is such a version."""

    section: str
    what: str
    ours: float
    unit: str
    """Rates end in ``/s``: more is better. Times are in s, ms, or ms a something: less is better."""
    naive: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times faster ours is than the naive version."""
        if self.naive is None or not self.naive or not self.ours:
            return None
        return self.ours / self.naive if self.unit.endswith("/s") else self.naive / self.ours

    def to_json(self) -> Mapping[str, object]:
        """Every field and the ratio."""
        return {
            "section": self.section,
            "what": self.what,
            "ours": self.ours,
            "unit": self.unit,
            "naive": self.naive,
            "ratio": self.ratio,
        }


def figures_table(figures: Sequence[Figure]) -> str:
    """A line a figure under a line a section."""
    rows: list[list[str]] = []
    section = None
    for figure in figures:
        if figure.section != section:
            section = figure.section
            rows.append([section, "", "", "", ""])
        naive, ratio = figure.naive, figure.ratio
        rows.append(
            [
                f"  {figure.what}",
                short(figure.ours),
                figure.unit,
                "" if naive is None else short(naive),
                "" if ratio is None else f"{short(ratio)}x",
            ]
        )
    return text_table(["what", "ours", "unit", "naive", "ratio"], rows)


def short(value: float) -> str:
    """Three digits that count, without an exponent; nothing below a thousandth."""
    return f"{value:,.0f}" if value >= 100 or value < 0.0005 else f"{value:.3g}" if value >= 0.01 else f"{value:.3f}"


CPU_SIZE, GPU_SIZE = 2048, 8192
"""Rows and columns of the large matrices."""


def describe_machine(choice: DeviceChoice) -> Mapping[str, object]:
    """What whoever reads the figures must know, JSON-able."""
    on_gpu = choice.device.startswith("cuda")
    return {
        "device": choice.device,
        "device_name": torch.cuda.get_device_name(choice.device) if on_gpu else processor(),
        "dtype": choice.dtype,
        "reason": choice.reason,
        "processor": processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def load_average() -> float | None:
    """Programs that wanted a processor, averaged over the last minute; None on systems that do not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def matrix_product(dtype: str, device: str) -> Callable[[int], float] | None:
    """Something that multiplies two large matrices of this format and returns the operations done (two a product).

    int8 is measured as torch runs it on CPUs: by oneDNN, result in float32. None where this torch has no such product.
    """
    size = CPU_SIZE if device == "cpu" else GPU_SIZE
    source = torch.Generator().manual_seed(0)
    if dtype == "int8":
        multiply = _int8_product(size, source) if device == "cpu" else None
        if multiply is None:
            return None
    else:
        one, other = (torch.randn(size, size, generator=source).to(device, getattr(torch, dtype)) for _ in range(2))

        def multiply() -> torch.Tensor:
            return one @ other

    repeats = 2 if device == "cpu" else 50

    def work(_: int) -> float:
        for _ in range(repeats):
            product = multiply()
        float(product[0, 0])  # waits for the device
        return 2.0 * size**3 * repeats

    work(0)
    return work


def _int8_product(size: int, source: torch.Generator) -> Callable[[], torch.Tensor] | None:
    operations: Any = torch.ops.onednn
    if not hasattr(operations, "qlinear_prepack") or not hasattr(operations, "qlinear_pointwise"):
        return None
    one = torch.randint(0, 127, (size, size), generator=source, dtype=torch.uint8)
    other = torch.randint(-127, 127, (size, size), generator=source, dtype=torch.int8)
    packed = operations.qlinear_prepack(other, None)
    scales, zeros = torch.ones(size), torch.zeros(size, dtype=torch.int32)

    def multiply() -> torch.Tensor:
        product: torch.Tensor = operations.qlinear_pointwise(
            one, 1.0, 64, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return product

    return multiply


START = """
import tyro, bm25s, scipy.stats, pytrec_eval
from searchrl.agent import run_dir
from searchrl.cli import describe
from searchrl.experiment import evaluate, sweep
from searchrl.agent import trainer
"""
"""What every ``train.py`` imports, though all its graphs are stored. Encoder and language model bring more."""


def startup_seconds() -> float:
    """Seconds of a new process that imports just that; here, most of it is imported already."""
    places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(place for place in places if place)}
    _, took = once(lambda: subprocess.run([sys.executable, "-c", START], check=True, env=environment))
    return took
