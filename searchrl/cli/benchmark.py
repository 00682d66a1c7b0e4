"""``benchmark.py``: what this machine does in a second, and how long 10,000 training episodes will take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from searchrl.cli.command import parse, run_command
from searchrl.config import BenchmarkConfig, DataConfig, GameConfig, ModelConfig

if TYPE_CHECKING:
    from searchrl.assemble import Workbench
    from searchrl.cli.sections import Row
    from searchrl.data.dataset import QuerySet, Split

EPISODES = 10_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``benchmark.py`` and ``searchrl-benchmark``."""
    run_command(_benchmark, arguments)


def _benchmark(arguments: Sequence[str]) -> None:
    config = parse(BenchmarkConfig, arguments, "benchmark.py")
    from searchrl.assemble import Workbench
    from searchrl.cli.output_file import check_output_file

    if config.json:
        check_output_file(config.json, "--json")
    data = DataConfig(config.dataset, config.data_dir, config.mirror)
    models = ModelConfig(device=config.device, lm=config.lm, cache=config.cache)
    with closing(Workbench(data, models, GameConfig(reward="qrels"), config.seed)) as bench:
        _measure(config, bench)


def _measure(config: BenchmarkConfig, bench: Workbench) -> None:
    from dataclasses import asdict

    from searchrl.evaluation.timing import Rates, estimate, once
    from searchrl.storage import write_text

    _, libraries = once(_import_libraries)
    from searchrl.cli import describe
    from searchrl.cli.sections import Row, Sections

    print(f"device: {bench.device.device} ({bench.device.reason})")
    print(describe.dataset(bench))
    sections = Sections(bench, _queries(config, bench), config.seed, started=libraries)
    rows = [Row("libraries", "import", libraries, "s")]
    for section in (
        sections.retriever,
        sections.reward_model_init,
        sections.scoring,
        sections.reformulation,
        sections.policy_forward,
        sections.training,
    ):
        rows += section()
    load = sections.workload(EPISODES)
    rates = Rates(start=sections.started, **sections.rates)
    guess = {name: estimate(rates, load, cold=name == "cold") for name in ("cold", "warm")}
    print(_table(rows))
    print(f"\ntrain.py --dataset {config.dataset}: {load.queries} queries, about {load.pairs} pairs to judge")
    print(_estimates(guess))
    if config.json:
        figures = [asdict(row) for row in rows]
        content = {"machine": _machine(bench), "dataset": bench.dataset.name, "figures": figures}
        content |= {"rates": asdict(rates), "workload": asdict(load), "estimated_seconds": guess}
        write_text(config.json, json.dumps(content, indent=2) + "\n")
        print(f"figures: {config.json}")


def _import_libraries() -> None:
    """What every training command imports."""
    import sentence_transformers  # noqa: F401

    from searchrl.cli import recorder, sections  # noqa: F401


def _queries(config: BenchmarkConfig, bench: Workbench) -> QuerySet:
    """The first queries of dev, or of the first split there is."""
    order: tuple[Split, ...] = ("dev", "train", "test")
    split = next((split for split in order if split in bench.dataset.splits), order[0])
    return bench.queries(split).take(config.num_queries)


def _table(rows: Sequence[Row]) -> str:
    from searchrl.evaluation.text_table import text_table

    cells = [[f"{row.section}: {row.measure}", _short(row.value), row.unit] for row in rows]
    return text_table(["measured", "value", "unit"], cells)


def _estimates(guess: Mapping[str, Mapping[str, float]]) -> str:
    from searchrl.evaluation.text_table import text_table

    cells = [[part, *(_short(guess[name][part]) for name in ("cold", "warm"))] for part in guess["cold"]]
    return text_table([f"estimate for {EPISODES:,} episodes, s", "cold", "warm"], cells)


def _machine(bench: Workbench) -> Mapping[str, object]:
    import os
    import platform

    import torch

    return {
        "device": bench.device.device,
        "dtype": bench.device.dtype,
        "reason": bench.device.reason,
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _short(value: float) -> str:
    """Three digits that count, without an exponent; nothing below a thousandth."""
    return f"{value:,.0f}" if value >= 100 or value < 0.0005 else f"{value:.3g}" if value >= 0.01 else f"{value:.3f}"
