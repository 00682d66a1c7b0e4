"""The comparison of methods on one query set: what each does on a search graph, its cost, gains, and significance."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from searchrl.agent import strategies
from searchrl.data.dataset import Corpus, QuerySet
from searchrl.data.own_document import own_document
from searchrl.device import rng
from searchrl.env.game import Game
from searchrl.env.graph import RewardRules, SearchGraph
from searchrl.env.tree import N_ACTIONS, ROOT, Action
from searchrl.errors import DataError
from searchrl.evaluation.measures import MEASURES, evaluate_ranking
from searchrl.evaluation.rerankers import rerankers
from searchrl.evaluation.significance import (
    PairedTest,
    bootstrap_interval,
    paired_tests,
    paired_tests_json,
    paired_tests_text,
)
from searchrl.evaluation.text_table import json_number, number, text_table
from searchrl.retrieval.ranking import Ranking

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

REWARD_MEASURE = "reward nDCG@10"
SINGLE_PASS = "single_pass"
BASELINES = (SINGLE_PASS, "best_fixed")
BINS = ("hard", "medium", "easy", "perfect")
BIN_RULES = ("= 0", "< .5", "< 1", "= 1")
"""By the single pass's nDCG@10. Hard: nothing relevant in the top 10. Perfect: the ideal top 10. The two between are
split at .5, a lone relevant document at rank 3. Fixed, not quantiles: they mean the same on every collection."""

_ROUNDING = 1e-9

PLAIN: dict[str, float] = {"dense": 0.0, "hybrid": 0.5, "bm25": 1.0}
"""Plain searches that everything is compared with -> the share of BM25 in each."""


@dataclass(frozen=True, eq=False)
class MethodResult:
    """What one method did on n queries.

    metrics: measure -> (n,) values. Human measures have their plain name (``nDCG@10``); another judge's view of the
    same measure is prefixed with who (``reward nDCG@10``) and stands beside it in the table.
    steps, searches, lm_calls: (n,) per query. action_fractions: (4,) by action id, sum 1.
    ranking: the n final rankings. actions: the action ids of each query's episode.
    """

    name: str
    metrics: Mapping[str, FloatArray]
    steps: FloatArray
    searches: FloatArray
    lm_calls: FloatArray
    action_fractions: FloatArray
    ranking: Ranking
    actions: Sequence[Sequence[int]]

    @property
    def means(self) -> dict[str, float]:
        """Mean of each measure over the queries."""
        return {measure: float(np.mean(values)) for measure, values in self.metrics.items()}

    @property
    def costs(self) -> dict[str, float]:
        """Mean steps, searches and language model calls per query."""
        costs = {"avg steps": self.steps, "searches": self.searches, "LM calls": self.lm_calls}
        return {name: float(np.mean(values)) for name, values in costs.items()}

    def cost_cells(self) -> list[str]:
        """Costs and the share of each action as text."""
        costs = [number(cost, ".2f") for cost in self.costs.values()]
        return [*costs, *(number(float(share), ".0%") for share in self.action_fractions)]


@dataclass(frozen=True)
class DifficultyTable:
    """Where a method gains: its mean score in each bin, hardest first, with bins fixed by what the single pass scored.

    Since single pass defines the bins, its own means are pushed down in ``hard`` and up in ``perfect`` (regression to
    the mean). The table describes; the tests belong to the whole query set.

    counts: queries in each of ``BINS``. means, deviations: method -> mean and standard deviation (of the population) in
    each bin, NaN where the bin is empty.
    """

    counts: tuple[int, ...]
    means: Mapping[str, tuple[float, ...]]
    deviations: Mapping[str, tuple[float, ...]]

    def __str__(self) -> str:
        labels = [f"{name} {rule}" for name, rule in zip(BINS, BIN_RULES, strict=True)]
        return text_table(["method", *labels], self.rows())

    def rows(self) -> list[list[str]]:
        """Queries in each bin, then each method's means with their deviations, as text."""
        spread = {name: zip(means, self.deviations[name], strict=True) for name, means in self.means.items()}
        cells = {
            n: [f"{number(m)} ± {number(d, '.2f')}" if m == m else number(m) for m, d in s] for n, s in spread.items()
        }
        return [["queries", *map(str, self.counts)], *([name, *row] for name, row in cells.items())]

    def to_json(self) -> dict[str, Any]:
        """Return bins, counts, means and deviations as JSON values."""
        return {
            "bins": list(BINS),
            "rules": list(BIN_RULES),
            "queries": list(self.counts),
            "means": {name: [json_number(mean) for mean in means] for name, means in self.means.items()},
            "deviations": {name: [json_number(x) for x in values] for name, values in self.deviations.items()},
        }


@dataclass(frozen=True, eq=False)
class ComparisonTable:
    """Methods on the same queries, as text (``str``) and as JSON values. Make one with ``build``.

    measure: what intervals, tests and difficulty are about. intervals: method -> 95% bootstrap interval of its mean.
    difficulty: None without a single pass to fix the bins.
    """

    methods: Sequence[MethodResult]
    measure: str
    intervals: Mapping[str, tuple[float, float]]
    tests: Sequence[PairedTest]
    difficulty: DifficultyTable | None

    @classmethod
    def build(cls, methods: Sequence[MethodResult], *, measure: str = "nDCG@10", seed: int = 0) -> ComparisonTable:
        """Compare methods; rows keep the order given.

        Every method but the oracle is tested against each of ``BASELINES`` that is present, with Holm's correction
        over the methods. Raises DataError where the results do not fit together.
        """
        if len({method.name for method in methods}) < max(len(methods), 1):
            raise DataError("nothing to compare, or two methods share a name")
        for method in methods:
            if measure not in method.metrics:
                raise DataError(f"method {method.name} has no {measure}; it has {', '.join(method.metrics) or 'none'}")
        values = {method.name: method.metrics[measure] for method in methods}
        return cls(
            methods=tuple(methods),
            measure=measure,
            intervals={name: bootstrap_interval(array, seed) for name, array in values.items()},
            tests=tuple(paired_tests([values], BASELINES, seed)[0]),
            difficulty=difficulty_table(values[SINGLE_PASS], values) if SINGLE_PASS in values else None,
        )

    @property
    def measures(self) -> list[str]:
        """Columns: every measure of any method in order of appearance, other judges' views beside the human one."""
        names = list(dict.fromkeys(measure for method in self.methods for measure in method.metrics))
        plain = list(dict.fromkeys(name.split()[-1] for name in names))
        return sorted(names, key=lambda name: (plain.index(name.split()[-1]), " " in name))

    def __str__(self) -> str:
        parts = [self.summary_text()]
        if self.difficulty is not None:
            parts.append(f"Mean {self.measure} by difficulty, as {SINGLE_PASS} scored the query\n{self.difficulty}")
        if self.tests:
            parts.append(f"Paired tests on {self.measure}\n{paired_tests_text(self.tests)}")
        return "\n\n".join(parts)

    def summary_text(self) -> str:
        """One row per method: measures, costs per query, share of each action; then which action is which."""
        actions = [f"A{action.value}" for action in Action]
        legend = ", ".join(f"A{action.value} {action.name.lower()}" for action in Action)
        rows = [[method.name, *self.quality_cells(method), *method.cost_cells()] for method in self.methods]
        table = text_table(["method", *self.measures, *self.methods[0].costs, *actions], rows)
        return f"{table}\n{legend}"

    def quality_cells(self, method: MethodResult) -> list[str]:
        """A method's means as text, a dash for a measure it lacks."""
        return [number(method.means.get(measure, float("nan"))) for measure in self.measures]

    def to_json(self) -> dict[str, Any]:
        """Return everything the text shows, unrounded, as values that ``json.dumps`` writes as they are."""
        methods = {
            method.name: {
                "metrics": {measure: json_number(mean) for measure, mean in method.means.items()},
                "interval": [json_number(bound) for bound in self.intervals[method.name]],
                **{cost.replace(" ", "_").lower(): json_number(mean) for cost, mean in method.costs.items()},
                "action_fractions": [json_number(float(share)) for share in method.action_fractions],
            }
            for method in self.methods
        }
        return {
            "queries": len(self.methods[0].steps),
            "measure": self.measure,
            "methods": methods,
            "tests": paired_tests_json(self.tests),
            "difficulty": None if self.difficulty is None else self.difficulty.to_json(),
        }


def difficulty_bins(single_pass: ArrayLike) -> NDArray[np.intp]:
    """Return the bin of each query, an index into ``BINS``, from the single pass's nDCG@10: (n,) -> (n,)."""
    return np.digitize(np.asarray(single_pass, dtype=np.float64), [_ROUNDING, 0.5 - _ROUNDING, 1 - _ROUNDING])


def difficulty_table(single_pass: ArrayLike, methods: Mapping[str, ArrayLike]) -> DifficultyTable:
    """Mean and spread of each method's (n,) values within the bins that the single pass's (n,) nDCG@10 fixes.

    Raises DataError if a method has another number of queries.
    """
    bins = difficulty_bins(single_pass)
    counts = np.bincount(bins, minlength=len(BINS))
    means, deviations = {}, {}
    for name, given in methods.items():
        values = np.asarray(given, dtype=np.float64)
        if values.shape != bins.shape:
            raise DataError(f"{name} has values for {values.size} queries, single pass for {bins.size}")
        parts = [values[bins == i] for i in range(len(BINS))]
        means[name] = tuple(float(part.mean()) if len(part) else float("nan") for part in parts)
        deviations[name] = tuple(float(part.std()) if len(part) else float("nan") for part in parts)
    return DifficultyTable(tuple(int(count) for count in counts), means, deviations)


def compare_methods(
    graph: SearchGraph,
    queries: QuerySet,
    game: Game,
    agent: NDArray[np.int64],
    best_fixed: Sequence[int],
    *,
    source: str,
    seed: int,
    rerank_share: float | None = None,
    measures: Sequence[str] = MEASURES,
) -> ComparisonTable:
    """Measure every method on one graph: plain searches of each kind, fixed strategies, the agent, the oracle.

    agent: (n,) states in which the agent's episodes ended. best_fixed: the actions that were best on dev queries.
    source: the gains by which the oracle chooses; beside people's judgments, a second one chooses by the reward model.
    rerank_share: the reward model's share in ``rerankers``, which may judge as many documents as the agent did; None
    leaves them out. measures: what human judgments are measured by; the first ranks. Without human judgments all is by
    the reward model.
    """
    results, corpus, retriever = [], game.corpus, game.retriever
    if queries.judged:
        own = own_document(queries, corpus)
        vectors = np.asarray(graph.query_vectors[:, graph.tree.query_slot[ROOT]])  # spares loading the encoder
        _warn_of_unknown_words(retriever.index.query_terms(queries.texts), queries)
        for name, share in PLAIN.items():
            ranking = retriever.search(retriever.queries(queries.texts, share, vectors), own)
            plain = MethodResult(
                name=name,
                metrics=evaluate_ranking(ranking, queries, corpus.ids, measures),
                steps=np.ones(len(queries)),
                searches=np.ones(len(queries)),
                lm_calls=np.zeros(len(queries)),
                action_fractions=np.eye(N_ACTIONS)[Action.SEARCH],
                ranking=ranking,
                actions=[[int(Action.SEARCH)]] * len(queries),
            )
            results.append(plain)
        if rerank_share is not None and game.reward_model is not None:
            budget = round(float(graph.judged[np.arange(len(graph)), agent].mean()))
            for name, found in rerankers(game, queries.texts, vectors, own, budget, rerank_share):
                metrics = evaluate_ranking(found.ranking, queries, corpus.ids, measures)
                calls = found.judged.astype(np.float64)
                results.append(replace(plain, name=name, metrics=metrics, lm_calls=calls, ranking=found.ranking))
    best = strategies.follow(graph.tree, best_fixed)
    ends = {
        "single_pass": strategies.single_pass(graph),
        "heuristic": strategies.heuristic(graph),
        "random": strategies.random_actions(graph, rng(seed, "random strategy")),
        "best_fixed": np.full(len(graph), best, dtype=np.int64),
        "rl_agent": agent,
        "oracle": strategies.oracle(graph, RewardRules(source, step_penalty=0.0)),
    }
    if rerank_share is not None and graph.tree.n_shares > 1:
        place = game.rules.trust.index(rerank_share)
        ends = {"single_pass": ends["single_pass"], "single_rerank": strategies.single_pass(graph, place), **ends}
    if source == "qrels" and "reward" in graph.gains:  # else what the reward pays would have no bound in the table
        ends["reward_oracle"] = strategies.oracle(graph, RewardRules("reward", step_penalty=0.0))
    results += [method_result(name, graph, end, queries, corpus, measures=measures) for name, end in ends.items()]
    return ComparisonTable.build(results, measure=measures[0] if queries.judged else REWARD_MEASURE, seed=seed)


def _warn_of_unknown_words(terms: Any, queries: QuerySet) -> None:
    unknown = np.flatnonzero(np.diff(terms.indptr) == 0)
    if len(unknown):
        logger.warning(
            "%d of %d queries have no word that any document has, so BM25 finds nothing for them (first: %r)",
            len(unknown),
            len(queries),
            queries.texts[unknown[0]],
        )


def human_first(graph: SearchGraph, source: str) -> str:
    """By which gains fixed strategies are chosen: people's where they judged, else ``source``, what pays the reward."""
    return "qrels" if "qrels" in graph.gains else source


def method_result(
    name: str,
    graph: SearchGraph,
    ends: NDArray[np.int64],
    queries: QuerySet,
    corpus: Corpus,
    steps: NDArray[np.int64] | None = None,
    measures: Sequence[str] = MEASURES,
) -> MethodResult:
    """Measure episodes that ended in the given states, one a query.

    ``steps`` (n,): steps taken where they are more than the legal path (mask off). Without human judgments only the
    reward model's view is measured.
    """
    tree = graph.tree
    paths = [tree.actions_to(int(node)) for node in ends]
    paths = [
        [*path, int(Action.TERMINATE)] if len(path) < tree.max_steps and not tree.over[node] else path
        for node, path in zip(ends, paths, strict=True)
    ]
    counts = np.stack([np.bincount(np.minimum(path, Action.TERMINATE), minlength=N_ACTIONS) for path in paths])
    ranking = graph.final_ranking(ends)
    metrics: dict[str, NDArray[np.float64]] = {}
    if queries.judged:
        metrics |= evaluate_ranking(ranking, queries, corpus.ids, measures)
    if "reward" in graph.gains:
        metrics[REWARD_MEASURE] = graph.state_gains("reward")[np.arange(len(graph)), ends].astype(np.float64)
    return MethodResult(
        name=name,
        metrics=metrics,
        steps=(tree.taken[ends] if steps is None else steps).astype(np.float64),
        searches=tree.searches[ends].astype(np.float64),
        lm_calls=graph.lm_calls(ends).astype(np.float64),
        action_fractions=counts.sum(axis=0) / counts.sum(),
        ranking=ranking,
        actions=paths,
    )
