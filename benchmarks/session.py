"""What all sections share: parts under measurement, sizes of samples, rates found; and what training has to do.

That is found by playing the search graphs with a reward model that takes notes. Playing takes seconds, scoring
minutes. So all that will be scored is known before any of it is: which document, for which queries, in which call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Bench
from benchmarks.lm_work import ModelShape, WorkCounter, model_shape
from benchmarks.measure import once
from benchmarks.naive import NaiveEncoder, NaiveLM
from searchrl.data.dataset import QuerySet, Split
from searchrl.device import rng
from searchrl.env.build import obtain_graph
from searchrl.env.game import Game
from searchrl.env.graph import SearchGraph
from searchrl.errors import ConfigError
from searchrl.models.folders import encoder_folder, language_model_folder
from searchrl.models.language_model import FloatArray
from searchrl.models.lm_cache import CachedLanguageModel
from searchrl.reward.calibrated import CalibratedReward
from searchrl.reward.lm import LMReward
from searchrl.threads import lazy


@dataclass(frozen=True)
class Sizes:
    """How much of each thing is measured; whatever is raced against its naive version, in each of the rounds."""

    rounds: int = 3
    queries: int = 1500
    """Queries at most whose search graph is played."""
    encoded: int = 96
    """Documents encoded."""
    judged: int = 64
    """Documents judged, each for all queries that met it."""
    judged_naively: int = 2
    rewritten: int = 32
    """Queries rewritten in one call."""
    corpora: tuple[int, ...] = (1_000, 10_000, 57_638)
    """Synthetic vectors searched; the last is the size of fiqa."""
    searched: int = 128
    """Queries in one search."""
    steps: int = 400
    """Steps of the live environment."""
    episodes: int = 640
    """Trained on."""
    episodes_naively: int = 64
    large_batch: int = 512
    """Episodes in one update, beside the usual 64."""
    growth_queries: tuple[int, ...] = (100, 300, 1_000)
    growth_documents: tuple[int, ...] = (1_000, 10_000, 100_000)


QUICK = Sizes(
    rounds=1,
    queries=100,
    encoded=24,
    judged=16,
    judged_naively=1,
    rewritten=8,
    corpora=(1_000, 10_000),
    searched=32,
    steps=60,
    episodes=256,
    episodes_naively=8,
    growth_queries=(30, 100),
    growth_documents=(1_000, 10_000),
)
"""For a first look: a minute, and rougher."""


@dataclass
class Session:
    """One benchmark of one workbench. Nothing that is timed with the language model passes through a stored cache."""

    bench: Bench
    sizes: Sizes
    rates: dict[str, float] = field(default_factory=dict)
    """What the sections found and the estimate needs: seconds by name, or items a second."""

    @property
    def seed(self) -> int:
        """Seeds every sample."""
        return self.bench.seed

    @lazy
    def played(self) -> dict[Split, QuerySet]:
        """Train and dev queries as far as there are any, at most ``sizes.queries`` together, in proportion.

        If there are neither, the test queries, which are searched and never trained on.
        """
        there = self.bench.dataset.splits
        splits: list[Split] = [split for split in ("train", "dev") if len(there.get(split, ()))] or ["test"]
        total = sum(len(self.bench.queries(split)) for split in splits)
        share = min(1.0, self.sizes.queries / total)
        return {split: _take(self.bench.queries(split), share) for split in splits}

    @lazy
    def queries(self) -> QuerySet:
        """The queries that rewriting and searching are measured with."""
        return next(iter(self.played.values()))

    @lazy
    def judge(self) -> LMReward:
        """The reward model as training has it, its scores as they are before they are calibrated."""
        judge = self.bench.reward_model
        judge = judge.reward if isinstance(judge, CalibratedReward) else judge
        if not isinstance(judge, LMReward):
            raise ConfigError("benchmark.py measures a language model as the judge: use a workbench with reward 'lm'")
        return judge

    @contextmanager
    def fresh_judge(self) -> Iterator[LMReward]:
        """The reward model behind a cache as in training, which shapes its batches, but an empty one in memory."""
        with closing(CachedLanguageModel(self.bench.transformers_lm, None)) as lm:
            yield replace(self.judge, lm=lm)

    def counting_judge(self) -> tuple[LMReward, WorkCounter]:
        """The reward model with nothing behind it but a counter of the work it would cause."""
        counter = WorkCounter(self.naive_lm.tokenizer, self._shape)
        return replace(self.judge, lm=counter), counter

    @lazy
    def naive_lm(self) -> NaiveLM:
        """The same language model, used plainly."""
        choice = self.bench.transformers_lm.choice
        dtype = choice.dtype if choice.dtype in ("bfloat16", "float16") else "float32"
        return NaiveLM(language_model_folder(self.bench.transformers_lm.name), choice.device, dtype)

    @lazy
    def naive_encoder(self) -> NaiveEncoder:
        """The same encoder, used plainly."""
        return NaiveEncoder(encoder_folder(self.bench.settings.encoder), self.bench.device.device)

    @lazy
    def lm_format(self) -> str:
        """The numeric format that the language model's linear layers compute in."""
        return self.bench.transformers_lm.choice.dtype

    @lazy
    def _shape(self) -> ModelShape:
        return model_shape(language_model_folder(self.bench.transformers_lm.name))

    def samples(self, lengths: NDArray[np.int64], size: int, name: str) -> list[NDArray[np.int64]]:
        """For each round ``size`` random indices, disjoint, each sample spread evenly over the lengths.

        Drawn one from each stratum of neighbours in length, so that a small sample has the whole's mixture of long and
        short; smaller where there are not enough to draw from.
        """
        rounds = self.sizes.rounds
        size = max(1, min(size, len(lengths) // rounds))
        source = rng(self.seed, "benchmark", name)
        strata = np.array_split(np.argsort(lengths, kind="stable"), size)
        drawn = [source.choice(stratum, min(rounds, len(stratum)), replace=False) for stratum in strata]
        return [np.array([d[i % len(d)] for d in drawn]) for i in range(rounds)]


def _take(queries: QuerySet, share: float) -> QuerySet:
    return queries.take(max(1, round(len(queries) * share)))


Pairs = Sequence[tuple[str, str]]
"""(query, document) texts."""


class NoteTaker:
    """A ``RewardModel`` that notes what it is asked, a list of pairs a call, and answers with random numbers."""

    fingerprint = "benchmark notes"
    absolute = True

    def __init__(self) -> None:
        self.calls: list[Pairs] = []
        self._source = np.random.default_rng(0)

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """Numbers in [0, 1), (n,), so that whoever trains on them has something to tell apart."""
        self.calls.append(list(zip(queries, documents, strict=True)))
        return np.asarray(self._source.random(len(queries)), dtype=np.float32)


@dataclass(frozen=True)
class Played:
    """Search graphs whose gains by ``reward`` mean nothing, and what a judge would have been asked."""

    graphs: Mapping[Split, SearchGraph]
    calls: Sequence[Pairs]
    """The pairs of each call."""
    seconds: float
    """That playing and storing took, judging aside."""
    loading: float
    """Seconds that finding and mapping the stored graphs took."""

    @property
    def queries(self) -> int:
        """Played."""
        return sum(len(graph) for graph in self.graphs.values())

    @lazy
    def groups(self) -> list[Pairs]:
        """The pairs of one document in one call: what a judge reads together."""
        return [group for call in self.calls for group in by_document(call)]


def play(bench: Bench, splits: Mapping[Split, QuerySet]) -> Played:
    """Build, store and load the graphs of these queries as ``train.py`` does, but judged by nobody."""
    rules = bench.game
    notes = NoteTaker()
    game = Game(rules.corpus, rules.retriever, rules.reformulator, notes, rules.rules)
    # Where a mapped file cannot be deleted (Windows), what is left is the system's to clear.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:

        def obtain() -> dict[Split, SearchGraph]:
            return {split: obtain_graph(game, queries, Path(folder)) for split, queries in splits.items()}

        _, playing = once(obtain)
        graphs, loading = once(obtain)
    return Played(graphs, notes.calls, playing, loading)


def by_document(call: Pairs) -> list[Pairs]:
    """The pairs of one call, each document's together."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for query, document in call:
        groups.setdefault(document, []).append((query, document))
    return list(groups.values())
