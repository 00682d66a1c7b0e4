"""From measured rates and the work there is to what a training command takes, cold and warm, part by part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.growth import fitted_exponent
from benchmarks.judging import work_of
from benchmarks.session import Session
from benchmarks.workload import Pairs, Played
from searchrl.config import LearningConfig

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
