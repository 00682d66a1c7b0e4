"""Sections: search graphs, steps of the environment, live and on a graph; a step of the policy, and training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from benchmarks import naive
from benchmarks.measure import Figure, in_turn, seconds
from benchmarks.session import Played, Session, play
from searchrl.agent.policy import Policy
from searchrl.agent.trainer import Trainer
from searchrl.config import EstimatorName, LearningConfig
from searchrl.env.game import Game
from searchrl.env.graph import BatchedSearchEnv, GraphTensors, RewardRules, SearchGraph
from searchrl.env.search_env import SearchEnv

BATCH = 64
SOURCE = "reward"


def graph_building(session: Session) -> tuple[Played, list[Figure]]:
    """The search graphs of all queries, built by ``train.py``'s own code with nobody judging, and loaded again."""
    played = play(session.bench, session.played)
    session.rates |= {
        "queries played": played.queries / played.seconds,
        "load graph, a query": played.loading / played.queries,
    }
    name = "search graph"
    return played, [
        Figure(name, "play, judging aside", session.rates["queries played"], "queries/s"),
        Figure(name, f"find and map the stored graphs of {played.queries} queries", played.loading, "s"),
    ]


def environment_steps(session: Session, played: Played) -> list[Figure]:
    """Random legal actions. Live, each search and each observation is computed; on the graph it is looked up.

    Human judgments pay, or the live environment would time the language model.
    """
    rules = session.bench.game
    game = Game(rules.corpus, rules.retriever, rules.reformulator, None, rules.rules)
    source = "qrels" if session.queries.judged else "reward"
    live = SearchEnv(game, session.queries, RewardRules("qrels"))
    graph = GraphTensors(next(iter(played.graphs.values())), RewardRules(source))
    chance, torch_chance = np.random.default_rng(session.seed), torch.Generator().manual_seed(session.seed)

    def one_by_one(number: int) -> float:
        live.reset(seed=session.seed + number)
        for _ in range(session.sizes.steps):
            action = int(chance.choice(np.flatnonzero(live.action_masks())))
            _, _, terminated, truncated, _ = live.step(action)
            if terminated or truncated:
                live.reset()
        return session.sizes.steps

    def batched(number: int) -> float:
        steps = 0
        for _ in range(session.sizes.steps // 4):
            env = BatchedSearchEnv(graph)
            seen = env.reset(torch.randint(0, graph.size, (BATCH,), generator=torch_chance))
            while not bool(env.done.all()):
                steps += int((~env.done).sum())
                actions = torch.multinomial(seen.mask.float(), 1, generator=torch_chance)[:, 0]
                seen, _, _ = env.step(actions)
        return steps

    batched(0)
    one_by_one(0)
    pace = in_turn(session.sizes.rounds, naive=one_by_one, ours=batched)
    live_rate = pace["naive"].rate()
    name = "environment"
    return [
        Figure(name, "live, one episode (SearchEnv)", live_rate, "steps/s"),
        Figure(name, f"on the graph, {BATCH} episodes (naive: live)", pace["ours"].rate(), "steps/s", live_rate),
    ]


def policy_forward(session: Session, played: Played) -> list[Figure]:
    """One step of the policy for a batch of episodes, and for one episode."""
    graph = next(iter(played.graphs.values()))
    tensors = GraphTensors(graph, RewardRules(SOURCE))
    policy = Policy(graph.dim, tensors.features.shape[-1], actions=graph.tree.n_actions)
    took = {}
    with torch.no_grad():
        for batch in (1, BATCH):
            seen = BatchedSearchEnv(tensors).reset(torch.arange(batch) % tensors.size)
            hidden, last = policy.start(batch)
            took[batch] = seconds(lambda: policy(seen, last, hidden), repeats=200, warm_ups=20)  # noqa: B023
    return [Figure("policy forward", f"{batch} episodes", 1000 * took[batch], "ms", None) for batch in took]


def training(session: Session, played: Played) -> list[Figure]:
    """Episodes a second, updates and a look at the dev queries included, by both estimators; what is earned is random.

    The naive version plays the same graph one episode at a time, step by step, and updates once a batch.
    """
    graphs = list(played.graphs.values())
    train, dev = graphs[0], graphs[-1]
    figures = []
    estimators: tuple[EstimatorName, ...] = ("reinforce", "exact")
    for estimator in estimators:
        config = LearningConfig(episodes=session.sizes.episodes, batch_size=BATCH, estimator=estimator)
        ours, plainly = _episodes(train, dev, config), _naive_episodes(train, session.sizes.episodes_naively, estimator)
        ours(0)
        plainly(0)
        pace = in_turn(session.sizes.rounds, naive=plainly, ours=ours)
        rate = pace["ours"].rate()
        session.rates[f"episodes, {estimator}"] = rate
        figures.append(Figure("training", f"{estimator}, batches of {BATCH}", rate, "episodes/s", pace["naive"].rate()))
        batch = session.sizes.large_batch
        large = replace(config, batch_size=batch, episodes=4 * batch, eval_every=4 * batch)
        rate = in_turn(session.sizes.rounds, ours=_episodes(train, dev, large))["ours"].rate()
        figures.append(Figure("training", f"{estimator}, batches of {batch}", rate, "episodes/s"))
    return figures


def _episodes(train: SearchGraph, dev: SearchGraph, config: LearningConfig) -> Callable[[int], float]:
    on, shown = (GraphTensors(graph, RewardRules(SOURCE)) for graph in (train, dev))

    def work(_: int) -> float:
        Trainer(on, shown, config, train.dim).run(lambda progress: None)
        return config.episodes

    return work


def _naive_episodes(graph: SearchGraph, count: int, estimator: EstimatorName) -> Callable[[int], float]:
    policy = Policy(graph.dim, graph.features.shape[-1], actions=graph.tree.n_actions)
    policy.standardise(torch.tensor(np.array(graph.features)))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-4)
    chance = torch.Generator().manual_seed(0)

    def work(_: int) -> float:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as the trainer does
        try:
            rows = torch.randint(0, len(graph), (count,), generator=chance).tolist()
            if estimator == "exact":
                naive.train_batch_exact(policy, optimizer, graph, SOURCE, rows)
            else:
                naive.train_batch(policy, optimizer, graph, SOURCE, rows, chance)
        finally:
            torch.set_num_threads(threads)
        return count

    return work
