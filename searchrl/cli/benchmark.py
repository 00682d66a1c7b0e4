"""``benchmark.py``: what this machine does in a second, and how long 10,000 training episodes will take.

What measures is ``benchmarks/`` in a clone, beside the package; an installed package does not have it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from searchrl.checks import at_least
from searchrl.command import check_output_file, parse, run_command
from searchrl.config import CollectionConfig, DataConfig, DtypeName, EncoderDtypeName, GameConfig, ModelConfig
from searchrl.errors import ConfigError

CLONE = Path(__file__).parents[2]


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure what this machine does in a second against plain one-at-a-time code, and estimate what 10,000 episodes
    take.
    """

    dataset: str = "pydocs"
    """pydocs (embedded), a BEIR folder, or nfcorpus, scifact, fiqa, arguana, scidocs (downloaded)."""
    device: str = "auto"
    """auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    lm: str = "auto"
    """smollm2-135m (comes with the installation), qwen2.5-1.5b, qwen2.5-3b, a hub name or a folder; auto by device."""
    dtype: DtypeName = "auto"
    """Numeric format of the language model; auto: as train.py chooses it."""
    encoder_dtype: EncoderDtypeName = "auto"
    """Numeric format of the encoder."""
    num_queries: int = 1500
    """Queries of train and dev whose search graphs are played to count the work; more are extrapolated."""
    million: bool = False
    """Also search 1,000,000 synthetic vectors (1.5 GB of memory, half a minute)."""
    quick: bool = False
    """Measure less of everything, once each: a first look, rougher."""
    collection: CollectionConfig = field(default_factory=CollectionConfig)
    json: Path | None = None
    """Write all figures with their units, the ratios and the machine to this file, too."""
    plot: Path | None = None
    """Draw growth and the time's breakdown into this PNG file."""
    cache: bool = True
    """Use the stored index, or store it; whatever is timed with the language model is computed anew in any case."""
    seed: int = 42
    """Seeds the samples."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        at_least("num_queries", self.num_queries, 1)
        at_least("seed", self.seed, 0)


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
    data = DataConfig(config.dataset, config.collection.data_dir, config.collection.mirror)
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
