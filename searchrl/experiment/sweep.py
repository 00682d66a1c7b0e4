"""``train.py --sweep NAME=VALUE,VALUE,...``: one policy a value on the same search graphs, and one table of all."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, get_type_hints

from searchrl.agent.checkpoint import load_policy
from searchrl.agent.run_dir import RunDir, next_free, open_run
from searchrl.agent.trainer import greedy_episodes
from searchrl.config import GameConfig, LearningConfig, TrainConfig
from searchrl.env.features import members
from searchrl.env.graph import GraphTensors, RewardRules
from searchrl.errors import ConfigError, nearest
from searchrl.evaluation.comparison import method_result
from searchrl.evaluation.report import write_sweep_page
from searchrl.evaluation.results import SweepRow, SweepTable
from searchrl.experiment.callbacks import Listener
from searchrl.experiment.parts import Models, open_models
from searchrl.experiment.prepare import Prepared, inputs, prepare_collections, read_collections
from searchrl.experiment.recorder import Recorder
from searchrl.experiment.train import train
from searchrl.files import write_text
from searchrl.tracking import check_tracker


@dataclass(frozen=True)
class Point:
    """One value of a sweep, as it is written in flags, and the settings of its run, but for where results go."""

    value: str
    config: TrainConfig

    @property
    def graph_settings(self) -> GameConfig:
        """What shapes the search graphs: not how one learns on them, and of the game not what it costs."""
        return replace(self.config.game, step_penalty=0.0, judge_penalty=0.0)


@dataclass(frozen=True)
class Sweep:
    """A setting, by its flag without dashes, and its values."""

    setting: str
    points: Sequence[Point]

    def __str__(self) -> str:
        return f"{self.setting}={','.join(point.value for point in self.points)}"


def read_sweep(config: TrainConfig) -> Sweep:
    """Read ``--sweep``. Raises ConfigError for what is no number, a number that a run cannot have, or a repeat."""
    flag = f"`sweep` {config.sweep}"
    name, equals, listed = (config.sweep or "").partition("=")
    if not equals:
        raise ConfigError(f"{flag}: write NAME=VALUE,VALUE,..., as in step-penalty=0,.01,.02")
    numeric = _numeric_settings()
    setting = name.strip().lstrip("-").replace("_", "-")
    if setting not in numeric:
        raise ConfigError(f"{flag}: {setting!r} is not a setting with numbers for values; {nearest(setting, numeric)}")
    group, kind = numeric[setting]
    points: list[Point] = []
    for text in listed.split(","):
        value = _number(kind, text, flag)
        if _written(value) in (point.value for point in points):
            raise ConfigError(f"{flag}: {_written(value)} is given twice")
        points.append(Point(_written(value), _with(config, group, setting, value)))
    return Sweep(setting, points)


def train_sweep(config: TrainConfig, sweep: Sweep, listener: Listener) -> tuple[RunDir, SweepTable]:
    """Train a policy for every value; write ``sweep.html``, ``.json``, ``.csv``, renewed after each.

    With ``output.resume``, values whose run came to its end are not trained again.
    """
    folder: RunDir | None = None
    table = SweepTable(sweep.setting, ())
    members(config.learning.hide)
    check_tracker(config.output.tracker)
    for game, points in groupby(sweep.points, key=lambda point: point.graph_settings):
        game = replace(game, step_penalty=config.game.step_penalty, judge_penalty=config.game.judge_penalty)
        with open_models(config.models, game, listener.show_progress) as models:
            listener.on_models(models)
            # Every split is made with the seed of the command, also where the sweep is over seeds.
            collections = read_collections(config.data, config.learning.seed, listener)
            if folder is None:
                folder = _open(config, sweep, models, inputs(collections))
                listener.say(f"sweep: {folder.path}")
            prepared = prepare_collections(collections, models, config.data, game, listener)
            told = list(points)
            runs = _runs(told, sweep, folder, prepared, listener)
            for point in told:
                listener.say(f"{sweep.setting} {point.value} ({len(table.rows) + 1} of {len(sweep.points)})")
                run = next(runs)
                table = SweepTable(sweep.setting, (*table.rows, _row(point, run, prepared)))
                _write(folder, table, config, sum(len(part.graphs["dev"]) for part in prepared.parts))
    assert folder is not None
    return folder, table


def _open(config: TrainConfig, sweep: Sweep, models: Models, data: Mapping[str, str]) -> RunDir:
    """The sweep's folder, which is a run's folder that holds runs: made, or found to be resumed."""
    output = config.output
    if output.run_name is None and not output.resume:
        name = next_free(output.runs_dir, f"{config.data.label}-{sweep.setting}").name
        output = replace(output, run_name=name)
    return open_run(replace(config, sweep=str(sweep), output=output), models.computed, data)


def _runs(
    points: Sequence[Point], sweep: Sweep, folder: RunDir, prepared: Prepared, listener: Listener
) -> Iterator[RunDir]:
    """Run folders of the points, in order: trained one after another, or all by a Ray cluster."""
    named = [(point, f"{sweep.setting}={point.value}") for point in points]
    cluster = prepared.models.settings.cluster
    if cluster.ray:
        from searchrl.experiment.remote import run_all, share

        return run_all(share(prepared, folder), named, cluster)
    data = inputs([part.collection for part in prepared.parts])
    return (train_point(point, folder, name, prepared, data, listener) for point, name in named)


def train_point(
    point: Point, folder: RunDir, name: str, prepared: Prepared, data: Mapping[str, str], listener: Listener
) -> RunDir:
    """Train one value's policy in a run folder of its own, unless that was done before. data: see ``inputs``."""
    run = RunDir(folder.path / name)
    if run.finished:
        listener.say(f"finished before: {run.path}")
        return run
    begun = run.config.exists()
    if not begun:
        shutil.rmtree(run.path, ignore_errors=True)  # a kill while it was made leaves an empty folder
    output = replace(point.config.output, runs_dir=folder.path, run_name=name, overwrite=False, resume=begun)
    config = replace(point.config, output=output)
    opened = open_run(config, prepared.models.computed, data)
    recorder = Recorder(opened, config.learning.checkpoint_every, None, begun, output.tracker)
    own = replace(prepared, settings=config.game)
    train(own, config.learning, [recorder, *listener.callbacks(recorder)], config)
    return run


def _row(point: Point, run: RunDir, prepared: Prepared) -> SweepRow:
    """What the run's policy does on the dev queries of each collection."""
    policy = load_policy(run.checkpoints / "policy_final.pt").policy
    results = {}
    for part in prepared.parts:
        dev, data = part.graphs["dev"], part.collection.dataset
        tensors = GraphTensors(dev, RewardRules(prepared.reward_source), point.config.game.mask)
        ends, steps = greedy_episodes(policy, tensors)
        queries = part.collection.queries("dev")
        results[data.name] = method_result("rl_agent", dev, ends.numpy(), queries, data.corpus, steps.numpy())
    return SweepRow.of(point.value, run.path.name, results)


def _write(folder: RunDir, table: SweepTable, config: TrainConfig, queries: int) -> None:
    facts = {"dataset": config.data.label, "split": "dev", "queries": queries}
    write_sweep_page(folder.path, table, facts)
    write_text(folder.path / "sweep.csv", table.to_csv())
    write_text(folder.path / "sweep.json", json.dumps({**facts, **table.to_json()}, indent=1, allow_nan=False) + "\n")


def _numeric_settings() -> dict[str, tuple[str, type[Any]]]:
    """Flag -> (its group in ``TrainConfig``, int or float) of every setting that is a number and can be swept."""
    groups = {"learning": LearningConfig, "game": GameConfig}
    return {
        name.replace("_", "-"): (group, kind)
        for group, settings in groups.items()
        for name, kind in get_type_hints(settings).items()
        if kind in (int, float)
    }


def _number(kind: type[Any], text: str, flag: str) -> float | int:
    try:
        value: float | int = kind(text)
    except ValueError:
        raise ConfigError(f"{flag}: {text!r} is not {'an integer' if kind is int else 'a number'}") from None
    if not math.isfinite(value):
        raise ConfigError(f"{flag}: {text!r} is not a finite number")
    return value


def _written(value: float | int) -> str:
    """As short as it can be written without becoming another number: 0, 0.01, 640."""
    short = f"{value:g}"
    return short if isinstance(value, float) and float(short) == value else repr(value)


def _with(config: TrainConfig, group: str, setting: str, value: float | int) -> TrainConfig:
    """The settings of one value's run. Raises ConfigError, naming the flag, where it cannot have that value."""
    changed: dict[str, Any] = {group: replace(getattr(config, group), **{setting.replace("-", "_"): value})}
    if setting == "seed" and config.data.split_seed is None:
        changed["data"] = replace(config.data, split_seed=config.learning.seed)  # the same dev queries for all
    return replace(config, **changed, sweep=None)
