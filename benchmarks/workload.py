"""What a training command has to do on a dataset, found by playing the search graphs with a judge that takes notes.

Playing takes seconds, judging minutes. So all that will be judged is known before any of it is: which document, for
which queries, in which call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.clock import once
from searchrl.data.dataset import QuerySet, Split
from searchrl.env.build import GraphSettings
from searchrl.env.game import Game
from searchrl.env.graph import SearchGraph
from searchrl.env.obtain import obtain_graph
from searchrl.experiment.parts import Workbench
from searchrl.models.language_model import FloatArray
from searchrl.threads import lazy

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


def play(bench: Workbench, splits: Mapping[Split, QuerySet]) -> Played:
    """Build, store and load the graphs of these queries as ``train.py`` does, but judged by nobody."""
    rules = bench.game
    notes = NoteTaker()
    game = Game(rules.corpus, rules.retriever, rules.reformulator, notes, rules.rules)
    # Where a mapped file cannot be deleted (Windows), what is left is the system's to clear.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:

        def obtain() -> dict[Split, SearchGraph]:
            return {
                split: obtain_graph(game, queries, GraphSettings(), Path(folder)) for split, queries in splits.items()
            }

        _, playing = once(obtain)
        graphs, loading = once(obtain)
    return Played(graphs, notes.calls, playing, loading)


def by_document(call: Pairs) -> list[Pairs]:
    """The pairs of one call, each document's together."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for query, document in call:
        groups.setdefault(document, []).append((query, document))
    return list(groups.values())
