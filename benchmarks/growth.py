"""How costs grow with queries and with documents, and the exponent that fits: cost ~ size ** exponent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.language_model import work_of
from benchmarks.measure import once, seconds, short
from benchmarks.retrieval import synthetic_queries, synthetic_retriever
from benchmarks.session import Session, play
from searchrl.agent.policy import Policy
from searchrl.agent.trainer import Trainer, greedy_episodes
from searchrl.config import LearningConfig
from searchrl.env.graph import GraphTensors, RewardRules
from searchrl.evaluation.text_table import text_table

SEARCHED = 100
"""Queries searched in corpora of growing size."""


@dataclass(frozen=True)
class Growth:
    """What one thing costs at several sizes."""

    what: str
    of: str
    """``queries`` or ``documents``."""
    costs: dict[int, float] = field(default_factory=dict)
    """Size -> seconds."""

    @property
    def exponent(self) -> float:
        """1: twice the size costs twice as much; 0: the size does not matter."""
        return fitted_exponent(list(self.costs), list(self.costs.values()))

    def to_json(self) -> Mapping[str, object]:
        """Sizes and seconds as lists."""
        return {
            "what": self.what,
            "of": self.of,
            "sizes": list(self.costs),
            "seconds": list(self.costs.values()),
            "unit": "s",
            "exponent": self.exponent,
        }


def fitted_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of the least-squares line through the logarithms; NaN for fewer than two sizes or costs not above 0."""
    if len(sizes) < 2 or min(costs) <= 0:
        return float("nan")
    slope, _ = np.polyfit(np.log(sizes), np.log(costs), 1)
    return float(slope)


def growth_by_queries(session: Session) -> list[Growth]:
    """Graphs of synthetic queries over the real corpus. Judging is counted in tokens, at the rate that was measured."""
    episodes = session.sizes.episodes
    playing, judging, loading, training, looking = (
        Growth(what, "queries")
        for what in (
            "play the search graph",
            "judge it (tokens by measured rate)",
            "find and map the stored graph",
            f"train {episodes} episodes and look at every query once",
            "play the greedy policy on every query",
        )
    )
    for size in session.sizes.growth_queries:
        queries = synthetic_queries(session.bench.dataset.corpus, size, session.seed)
        played = play(session.bench, {"train": queries})
        graph = played.graphs["train"]
        playing.costs[size] = played.seconds
        judging.costs[size] = sum(work_of(session, call)[0] for call in played.calls) / session.rates["tokens judged"]
        loading.costs[size] = played.loading
        tensors = GraphTensors(graph, RewardRules("reward"))
        config = LearningConfig(episodes=episodes)
        training.costs[size] = once(lambda: Trainer(tensors, tensors, config, graph.dim).run(lambda progress: None))[1]  # noqa: B023
        policy = Policy(graph.dim, graph.features.shape[-1], actions=graph.tree.n_actions)
        looking.costs[size] = seconds(lambda: greedy_episodes(policy, tensors), repeats=3)  # noqa: B023
    return [playing, judging, loading, training, looking]


def growth_by_documents(session: Session) -> list[Growth]:
    """Synthetic vectors, and synthetic documents of a dozen words."""
    dense, hybrid, lexical, building = (
        Growth(what, "documents")
        for what in (
            f"dense search, {SEARCHED} queries",
            f"hybrid search, {SEARCHED} queries",
            f"BM25 search, {SEARCHED} queries",
            "build the BM25 index (12 words each)",
        )
    )
    depth = session.bench.game_config.depth
    texts = [f"w{i % 7 + 1} w{i + 3} w{2 * i + 5}" for i in range(SEARCHED)]
    for size in session.sizes.growth_documents:
        found, took = once(lambda: synthetic_retriever(session.bench.encoder, size, depth, session.seed, words=12))  # noqa: B023
        building.costs[size] = took
        fresh = found.queries(texts)
        for growth, share in ((dense, 0.0), (hybrid, 0.5), (lexical, 1.0)):
            queries = replace(fresh, lexical=np.full(len(fresh), share, dtype=np.float32))
            growth.costs[size] = seconds(lambda: found.search(queries), repeats=3)  # noqa: B023
    return [dense, hybrid, lexical, building]


def growth_table(growths: Sequence[Growth]) -> str:
    """One table a dimension: seconds by size, and the exponent."""
    tables = []
    for of in dict.fromkeys(growth.of for growth in growths):
        chosen = [growth for growth in growths if growth.of == of]
        header = [f"growth with {of}, s", *(f"{size:,}" for size in chosen[0].costs), "exponent"]
        # Added to 0, so that no exponent reads -0.00.
        rows = [[g.what, *map(short, g.costs.values()), f"{0.0 + round(g.exponent, 2):.2f}"] for g in chosen]
        tables.append(text_table(header, rows))
    return "\n\n".join(tables)
