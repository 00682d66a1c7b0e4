"""``benchmark.py``: what this machine does in a second, and how long 10,000 training episodes will take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from searchrl.cli.settings import BenchmarkConfig
from searchrl.command import check_output_file, parse, run_command
from searchrl.config import DataConfig, GameConfig, ModelConfig

if TYPE_CHECKING:
    from benchmarks.report import Report
    from benchmarks.session import Session, Sizes
    from benchmarks.workload import Played
    from searchrl.experiment.parts import Workbench


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``benchmark.py`` and ``searchrl-benchmark``."""
    run_command(_benchmark, arguments)


def _benchmark(arguments: Sequence[str]) -> None:
    config = parse(BenchmarkConfig, arguments, "benchmark.py")

    if config.json:
        check_output_file(config.json, "--json")
    if config.plot:
        check_output_file(config.plot, "--plot")
        _check_plot(config)
    from searchrl.experiment.parts import Workbench

    data = DataConfig(config.dataset, config.data_dir, config.mirror)
    models = ModelConfig(
        device=config.device,
        lm=config.lm,
        dtype=config.dtype,
        encoder_dtype=config.encoder_dtype,
        cache=config.cache,
    )
    with closing(Workbench(data, models, GameConfig(), config.seed)) as bench:
        report = _measure(config, bench)
    print(report.text())
    _write(config, report)


def _measure(config: BenchmarkConfig, bench: Workbench) -> Report:
    from tqdm import tqdm

    from benchmarks.clock import once
    from benchmarks.estimate import estimate, rates_of, workload
    from benchmarks.machine import describe_machine, load_average
    from benchmarks.report import Report
    from benchmarks.run import STEPS, grow, measure
    from benchmarks.session import Session
    from benchmarks.startup import startup_seconds
    from searchrl.cli import describe

    _, data = once(lambda: bench.dataset)
    print(f"device: {bench.device.device} ({bench.device.reason})")
    print(describe.dataset(bench))
    lm = bench.transformers_lm  # what is not to be had is said before the work
    print(f"language model: {lm.name}, {lm.choice.dtype} ({lm.choice.reason})")
    load = [load_average()]
    session = Session(bench, _sizes(config))
    with tqdm(total=STEPS, unit="section") as bar:

        def step(name: str) -> None:
            bar.update(1 if bar.desc else 0)
            bar.set_description(name)

        step("libraries")
        libraries = startup_seconds()
        figures, played = measure(session, step)
        _, tables = once(lambda: _tables(session, played))
        rates, work = rates_of(session, libraries, data, tables), workload(session, played)
        growths = grow(session, step)
        bar.update()
    estimates = {name: estimate(rates, work, cold=name == "cold") for name in ("cold", "warm")}
    machine, load = describe_machine(lm.choice), [*load, load_average()]
    return Report(machine, load, bench.dataset.name, figures, rates, work, estimates, growths)


def _write(config: BenchmarkConfig, report: Report) -> None:
    from benchmarks.plot import write_plot
    from searchrl.files import write_text

    if config.json:
        write_text(config.json, json.dumps(report.to_json(), indent=2, allow_nan=False) + "\n")
        print(f"figures: {config.json}")
    if config.plot:
        title = f"{report.dataset} on {report.machine['device_name']}"
        write_plot(config.plot, report.growths, report.estimates, title)
        print(f"plot: {config.plot}")


def _check_plot(config: BenchmarkConfig) -> None:
    from benchmarks.plot import check_plot

    assert config.plot is not None
    check_plot(config.plot)


def _sizes(config: BenchmarkConfig) -> Sizes:
    from dataclasses import replace

    from benchmarks.session import QUICK, Sizes

    sizes = QUICK if config.quick else Sizes()
    corpora = (*sizes.corpora, 1_000_000) if config.million else sizes.corpora
    return replace(sizes, queries=min(sizes.queries, config.num_queries), corpora=corpora)


def _tables(session: Session, played: Played) -> Mapping[str, object]:
    """What train.py says before and after training: the headroom, and the comparison on dev queries."""
    import torch

    from searchrl.agent import strategies
    from searchrl.agent.policy import Policy
    from searchrl.agent.trainer import greedy_episodes
    from searchrl.cli import describe
    from searchrl.cli.describe import compare, human_first
    from searchrl.env.batched import GraphTensors, RewardRules

    bench = session.bench
    split, dev = list(played.graphs.items())[-1]
    headroom = describe.headroom(bench, dict(played.graphs.items()))
    best = strategies.best_fixed(dev, human_first(dev, bench), bench.game_config.step_penalty)
    actions = [int(a) for a in dev.tree.actions_to(best)]
    torch.manual_seed(session.seed)
    nodes, _ = greedy_episodes(Policy(dev.dim, dev.features.shape[-1]), GraphTensors(dev, RewardRules("reward")))
    table = compare(bench, dev, session.played[split], nodes.numpy(), actions, session.seed)
    return {"headroom": headroom, "comparison": table.summary_text()}
