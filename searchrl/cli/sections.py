"""What ``benchmark.py`` measures: one method a section, each giving its rows and noting rates for the estimate."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from searchrl.agent.policy import Policy
from searchrl.agent.trainer import Trainer
from searchrl.assemble import Workbench
from searchrl.config import LearningConfig
from searchrl.data.dataset import QuerySet
from searchrl.device import rng
from searchrl.env.batched import BatchedSearchEnv, GraphTensors, RewardRules
from searchrl.env.build import GraphSettings, build_graph
from searchrl.env.features import TOP
from searchrl.env.graph import SearchGraph
from searchrl.evaluation.timing import Workload, once, seconds
from searchrl.models.presets import judging_method
from searchrl.reformulate.lm import LMReformulator
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.ranking import Ranking
from searchrl.reward.lm import LMReward

ENCODED = 64
"""Documents encoded for the rate."""
SCORED = 10
"""Documents judged for one query."""
POOLED = 20
"""Documents judged for every query of the graph that met them."""
REWRITTEN = 8
"""Queries rewritten in one batch."""
BATCH = 64
UPDATES = 300
"""Updates of one batch of episodes each, timed after ``WARM_UPDATES``."""
WARM_UPDATES = 20


@dataclass(frozen=True)
class Row:
    """One figure."""

    section: str
    measure: str
    value: float
    unit: str


@dataclass
class Sections:
    """Measures the parts of one workbench on some judged queries; the methods are called in their order.

    Nothing that is timed with the language model passes through its cache.
    """

    bench: Workbench
    queries: QuerySet
    seed: int
    rates: dict[str, float] = field(default_factory=dict)
    """Items per second, by the names of ``Rates``."""
    started: float = 0.0
    """Seconds of whatever every command has to load before it begins."""

    @cached_property
    def graph(self) -> SearchGraph:
        """The search graph of the queries. Nobody judges it, so that it needs no language model."""
        graph, took = once(lambda: build_graph(self.bench.game, self.queries, GraphSettings()))
        self.rates["queries"] = len(self.queries) / took
        return graph

    @cached_property
    def first(self) -> Ranking:
        """What a plain search returns for every query."""
        return self.bench.retriever.search(self.bench.retriever.queries(self.queries.texts))

    def retriever(self) -> list[Row]:
        """Encoder, indexes, searches, and the rate of encoding documents."""
        bench, corpus = self.bench, self.bench.dataset.corpus
        encoder, encoder_took = once(lambda: bench.encoder)
        retriever, indexes_took = once(lambda: bench.retriever)
        _, lexical_took = once(lambda: LexicalIndex(corpus))
        self.started += encoder_took + lexical_took
        texts = self.queries.texts[:20]
        whole = seconds(lambda: [retriever.search(retriever.queries([text])) for text in texts])
        encoded = retriever.queries(texts)
        search = seconds(lambda: [retriever.search(encoded.row(i)) for i in range(len(texts))])
        sample = rng(self.seed, "benchmark", "encode").permutation(len(corpus))[:ENCODED]
        documents = [corpus.full_text(int(i)) for i in sample]
        encoding = seconds(lambda: encoder.encode(documents), repeats=1)
        self.rates["documents"] = len(documents) / encoding
        name = "retriever"
        return [
            Row(name, "load the encoder", encoder_took, "s"),
            Row(name, "build or load the indexes", indexes_took, "s"),
            Row(name, "search, query encoded already", 1000 * search / len(texts), "ms/query"),
            Row(name, "encode and search, one at a time", 1000 * whole / len(texts), "ms/query"),
            Row(name, "encode documents", self.rates["documents"], "documents/s"),
        ]

    def reward_model_init(self) -> list[Row]:
        """Loading the language model that judges."""
        lm, took = once(lambda: self.bench.transformers_lm)
        self.started += took
        return [Row("reward model initialisation", f"load {lm.name}", took, "s")]

    @cached_property
    def judge(self) -> LMReward:
        """The reward model, without a cache."""
        lm = self.bench.transformers_lm
        return LMReward(lm, judging_method(lm.parameters), self.bench.prompts)

    def scoring(self) -> list[Row]:
        """A few documents for one query; then a sample of the graph's documents for every query that met them."""
        corpus, query = self.bench.dataset.corpus, self.queries.texts[0]
        top = [int(d) for d in self.first.documents[0] if d >= 0][: SCORED + 2]
        texts = [corpus.full_text(d) for d in top]
        self.judge.score([query] * len(texts[-2:]), texts[-2:])
        texts = texts[:SCORED]
        one = seconds(lambda: self.judge.score([query] * len(texts), texts), repeats=3, warm_ups=0)
        pools = self.pools()
        met = np.unique(np.concatenate(pools))
        chosen = rng(self.seed, "benchmark", "score").permutation(met)[:POOLED]
        pairs = [(q, int(d)) for q, pool in zip(self.queries.texts, pools, strict=True) for d in chosen if d in pool]
        ask, about = [q for q, _ in pairs], [corpus.full_text(d) for _, d in pairs]
        many = seconds(lambda: self.judge.score(ask, about), repeats=1, warm_ups=0)
        self.rates["pairs"] = len(pairs) / many
        name = "scoring"
        return [
            Row(name, f"{len(texts)} documents for one query, by {self.judge.method}", one, "s"),
            Row(name, f"{len(chosen)} documents for all queries that met them, {len(pairs)} pairs", many, "s"),
            Row(name, "judge pairs of a graph", self.rates["pairs"], "pairs/s"),
        ]

    def reformulation(self) -> list[Row]:
        """The reformulator's start, and rewriting by the language model. It shares the judge's model."""
        bench = self.bench
        reformulator, took = once(
            lambda: LMReformulator(
                bench.transformers_lm, bench.encoder, bench.retriever.lexical, bench.dataset.corpus, bench.prompts
            )
        )

        def rewrite(n: int) -> object:
            current, last = bench.retriever.queries(self.queries.texts[:n]), self.first
            return reformulator.reformulate("narrow", current, current, Ranking(last.documents[:n], last.scores[:n]))

        rewritten = min(REWRITTEN, len(self.queries))
        one, many = seconds(lambda: rewrite(1), repeats=3), seconds(lambda: rewrite(rewritten), repeats=1, warm_ups=0)
        return [
            Row("reformulator initialisation", "share the model that judges", took, "s"),
            Row("reformulation", "one query", one, "s"),
            Row("reformulation", f"queries in a batch of {rewritten}", rewritten / many, "queries/s"),
        ]

    def policy_forward(self) -> list[Row]:
        """One step of the policy for a batch of episodes."""
        graph = self._tensors()
        policy = Policy(self.graph.dim, graph.features.shape[-1])
        seen = BatchedSearchEnv(graph).reset(torch.arange(BATCH) % graph.size)
        hidden, last = policy.start(BATCH)
        with torch.no_grad():
            took = seconds(lambda: policy(seen, last, hidden), repeats=200, warm_ups=20)
        return [Row("policy forward", f"batch of {BATCH}", 1000 * took, "ms")]

    def training(self) -> list[Row]:
        """Building the graph without a judge, and training on it by human judgments."""
        graph = self._tensors()

        def train(updates: int) -> None:
            config = LearningConfig(episodes=updates * BATCH, batch_size=BATCH, seed=self.seed)
            Trainer(graph, graph, config, self.graph.dim).run(lambda progress: None)

        train(WARM_UPDATES)
        _, took = once(lambda: train(UPDATES))
        self.rates["episodes"] = UPDATES * BATCH / took
        name = "training on the graph"
        return [
            Row(name, "build the graph, judging aside", self.rates["queries"], "queries/s"),
            Row(name, f"{UPDATES} updates of {BATCH} episodes", self.rates["episodes"], "episodes/s"),
        ]

    def pools(self) -> list[np.ndarray[tuple[int], np.dtype[np.int32]]]:
        """Documents that a reward model would be asked about, of each query."""
        tops = np.asarray(self.graph.final)[:, :, :TOP].reshape(len(self.graph), -1)
        return [np.unique(top[top >= 0]) for top in tops]

    def workload(self, episodes: int) -> Workload:
        """What ``train.py`` has to do on this dataset; pairs by the average pool of the queries measured."""
        data = self.bench.dataset
        trained = sum(len(data.splits[split]) for split in ("train", "dev") if split in data.splits)
        pool = np.mean([len(pool) for pool in self.pools()])
        return Workload(len(data.corpus), trained, round(trained * float(pool)), episodes)

    def _tensors(self) -> GraphTensors:
        return GraphTensors(self.graph, RewardRules("qrels"))
