"""``benchmark.py``: what this machine does in a second, and how long 10,000 training episodes will take.

What measures is ``benchmarks/`` in a clone, beside the package; an installed package does not have it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from searchrl.cli.settings import BenchmarkConfig
from searchrl.command import check_output_file, parse, run_command
from searchrl.config import DataConfig, GameConfig, ModelConfig
from searchrl.errors import ConfigError

CLONE = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``benchmark.py`` and ``searchrl benchmark``."""
    run_command(_benchmark, arguments)


def _benchmark(arguments: Sequence[str]) -> None:
    config = parse(BenchmarkConfig, arguments, "benchmark.py")
    if not (CLONE / "benchmarks" / "run.py").is_file():
        raise ConfigError("the benchmark needs a clone of SearchRL: what it measures with is not installed")
    if str(CLONE) not in sys.path:
        sys.path.append(str(CLONE))
    if config.json:
        check_output_file(config.json, "--json")
    if config.plot:
        check_output_file(config.plot, "--plot")
    from tqdm import tqdm

    from benchmarks.bench import Bench
    from benchmarks.report import check_plot, write_plot
    from benchmarks.run import STEPS, benchmark, sizes_of
    from searchrl.files import write_text

    if config.plot:
        check_plot(config.plot)
    data = DataConfig(config.dataset, config.data_dir, config.mirror)
    models = ModelConfig(
        device=config.device,
        lm=config.lm,
        dtype=config.dtype,
        encoder_dtype=config.encoder_dtype,
        cache=config.cache,
    )
    sizes = sizes_of(config.quick, config.num_queries, config.million)
    with (
        closing(Bench(data, models, GameConfig(), config.seed)) as bench,
        tqdm(total=STEPS, unit="section") as bar,
    ):

        def step(name: str) -> None:
            bar.update(1 if bar.desc else 0)
            bar.set_description(name)

        report = benchmark(bench, sizes, step, tqdm.write)
        bar.update()
    print(report.text())
    if config.json:
        write_text(config.json, json.dumps(report.to_json(), indent=2, allow_nan=False) + "\n")
        print(f"figures: {config.json}")
    if config.plot:
        title = f"{report.dataset} on {report.machine['device_name']}"
        write_plot(config.plot, report.growths, report.estimates, title)
        print(f"plot: {config.plot}")
