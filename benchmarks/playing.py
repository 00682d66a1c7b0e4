"""Sections: building search graphs; steps of the environment, live with the models and on a graph."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.clock import in_turn
from benchmarks.figure import Figure
from benchmarks.session import Session
from benchmarks.workload import Played, play
from searchrl.env.batched import BatchedSearchEnv, GraphTensors, RewardRules
from searchrl.env.game import Game
from searchrl.env.search_env import SearchEnv

BATCH = 64


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
