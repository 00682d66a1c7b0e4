"""What the figures come to: how long a training command takes, and everything as text, JSON and a picture."""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.growth import Growth, fitted_exponent, growth_table
from benchmarks.language_model import work_of
from benchmarks.measure import Figure, figures_table, short
from benchmarks.session import Pairs, Played, Session
from searchrl.config import LearningConfig
from searchrl.errors import ConfigError
from searchrl.evaluation.text_table import text_table
from searchrl.files import write_bytes

if TYPE_CHECKING:
    from benchmarks.growth import Growth

EPISODES = 10_000


@dataclass(frozen=True)
class Workload:
    """What a training command has to do on one dataset. Cold: nothing is stored yet."""

    documents: int
    """To encode."""
    queries: int
    """Of train and dev, whose search graphs are played."""
    pairs: int
    """Of a query and a document, to judge."""
    tokens: int
    """That judging them takes; see ``lm_work.py``."""
    episodes: int


@dataclass(frozen=True)
class Rates:
    """What the machine was measured to do with this dataset and its models."""

    libraries: float
    """Seconds to start Python and import what every training command imports."""
    data: float
    """Seconds to read documents and queries."""
    name_models: float
    """Seconds to find encoder and language model and their fingerprints."""
    load_models: float
    """Seconds to load both, their libraries included, and to answer once; spared where all answers are stored."""
    documents: float
    """Encoded a second."""
    indexes: float
    """Seconds to build the lexical index, which is not stored."""
    queries: float
    """Played through the whole search graph a second, judging aside."""
    load_graph: float
    """Seconds to find and map a stored graph, for one query."""
    tokens: float
    """Judged a second."""
    episodes: float
    """Trained a second, updates and looks at the dev queries included."""
    tables: float
    """Seconds for what is said about judge and headroom before training, and the comparison after it."""


def estimate(rates: Rates, load: Workload, cold: bool) -> Mapping[str, float]:
    """Seconds by part, and their sum as ``total``. Warm: index, graphs and judgments are stored already."""
    playing = load.queries / rates.queries if cold else load.queries * rates.load_graph
    parts = {
        "libraries": rates.libraries,
        "data": rates.data,
        "models and their libraries": rates.name_models + (rates.load_models if cold else 0.0),
        "encoding the corpus": load.documents / rates.documents if cold else 0.0,
        "indexes": rates.indexes,
        "playing the search graphs": playing,
        "judging": load.tokens / rates.tokens if cold else 0.0,
        "training": load.episodes / rates.episodes,
        "evaluation and tables": rates.tables,
    }
    return {**parts, "total": sum(parts.values())}


def workload(session: Session, played: Played) -> Workload:
    """What ``train.py`` has to do, counted; scaled up where only some of the queries were played.

    Pairs grow with the queries. Tokens grow more slowly, because a document is read once for all queries that met it:
    by the power of the number of queries that the played ones show against half of them.
    """
    data = session.bench.dataset
    total = sum(len(data.splits[split]) for split in ("train", "dev") if split in data.splits)
    total = total or played.queries
    pairs, tokens = sum(map(len, played.calls)), _tokens(session, played.calls)
    factor = total / played.queries
    if factor > 1:
        half = {text for queries in session.played.values() for text in queries.texts[::2]}
        fewer = [[pair for pair in call if pair[0] in half] for call in played.calls]
        power = fitted_exponent([len(half), played.queries], [_tokens(session, fewer), tokens])
        tokens = round(tokens * factor ** (1.0 if math.isnan(power) else min(max(power, 0.0), 1.0)))
    return Workload(len(data.corpus), total, round(pairs * factor), tokens, EPISODES)


def _tokens(session: Session, calls: Sequence[Pairs]) -> int:
    return sum(work_of(session, call)[0] for call in calls)


def rates_of(session: Session, libraries: float, data: float, tables: float) -> Rates:
    """What the sections found, under the names of the estimate."""
    found = session.rates
    return Rates(
        libraries=libraries,
        data=data,
        name_models=found["name encoder"] + found["name judge"],
        load_models=found["load encoder"] + found["load judge"],
        documents=found["documents encoded"],
        indexes=found["build indexes"],
        queries=found["queries played"],
        load_graph=found["load graph, a query"],
        tokens=found["tokens judged"],
        episodes=found[f"episodes, {LearningConfig().estimator}"],
        tables=tables,
    )


@dataclass(frozen=True)
class Report:
    """The results of one run."""

    machine: Mapping[str, object]
    load: Sequence[float | None]
    """Load averages of one minute, before and after."""
    dataset: str
    figures: Sequence[Figure]
    rates: Rates
    work: Workload
    estimates: Mapping[str, Mapping[str, float]]
    """``cold`` and ``warm`` -> part -> seconds."""
    growths: Sequence[Growth]

    def text(self) -> str:
        """Tables for people."""
        work = self.work
        rows = [[part, *(short(self.estimates[name][part]) for name in self.estimates)] for part in self.parts]
        about = (
            f"train.py --dataset {self.dataset}: {work.documents:,} documents to encode, {work.queries:,} queries, "
            f"{work.pairs:,} pairs to judge ({work.tokens:,} tokens)"
        )
        blocks = [
            figures_table(self.figures),
            growth_table(self.growths),
            about + "\n" + text_table([f"estimate for {EPISODES:,} episodes, s", *self.estimates], rows),
            self.busy(),
        ]
        return "\n\n".join(block for block in blocks if block)

    @property
    def parts(self) -> list[str]:
        """Of an estimate, in order."""
        return list(next(iter(self.estimates.values())))

    def busy(self) -> str:
        """Whether other programs took part of the machine; empty where they did not, or where nobody knows."""
        cpus, before = self.machine["cpus"], self.load[0]
        if before is None or not isinstance(cpus, int) or before < 0.25 * cpus:
            return ""
        return (
            f"The machine was busy: {before:.1f} programs wanted its {cpus} processors in the minute before. Rates are "
            "too low by that; ratios were taken in turn and stand."
        )

    def to_json(self) -> Mapping[str, object]:
        """All figures with their units. NaN becomes null."""
        content = {
            "machine": dict(self.machine),
            "load_average": {"before": self.load[0], "after": self.load[-1]},
            "dataset": self.dataset,
            "figures": [figure.to_json() for figure in self.figures],
            "growth": [growth.to_json() for growth in self.growths],
            "rates": asdict(self.rates),
            "workload": asdict(self.work),
            "estimated_seconds": {name: dict(parts) for name, parts in self.estimates.items()},
        }
        return {name: _strict(value) for name, value in content.items()}


def _strict(value: object) -> object:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def check_plot(path: Path) -> None:
    """Raise ConfigError where no picture can be drawn under this name: before anything is measured."""
    if path.suffix.lower() != ".png":
        raise ConfigError(f"plot {path}: pictures are PNG; name it {path.with_suffix('.png').name}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("a plot needs matplotlib, which is an extra: uv pip install 'searchrl[plot]'")


def write_plot(path: Path, growths: Sequence[Growth], estimates: Mapping[str, Mapping[str, float]], title: str) -> None:
    """Write a PNG, whole or not at all. ``estimates``: name (cold, warm) -> part -> seconds, ``total`` left out.

    Raises OutputError when the place cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5), layout="constrained")
    FigureCanvasAgg(figure)
    kinds = list(dict.fromkeys(growth.of for growth in growths))
    axes = figure.subplots(1, len(kinds) + 1, squeeze=False)[0]
    for kind, axis in zip(kinds, axes, strict=False):
        for growth in growths:
            if growth.of == kind:
                label = f"{growth.what} ({growth.exponent:.2f})"
                axis.plot(list(growth.costs), list(growth.costs.values()), marker="o", label=label)
        axis.set(xscale="log", yscale="log", xlabel=kind, ylabel="seconds", title=f"growth with {kind} (exponent)")
        axis.legend(fontsize="x-small")
        axis.grid(visible=True, alpha=0.3)
    axis = axes[-1]
    left = dict.fromkeys(estimates, 0.0)
    for part in next(iter(estimates.values()), {}):
        if part != "total":
            widths = [estimates[name][part] for name in estimates]
            axis.barh(list(estimates), widths, left=list(left.values()), label=part)
            left = {name: left[name] + width for name, width in zip(estimates, widths, strict=True)}
    axis.set(xlabel="seconds", title="10,000 episodes")
    axis.legend(fontsize="x-small")
    figure.suptitle(title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_bytes(path, picture.getvalue(), "name another file for the plot")
