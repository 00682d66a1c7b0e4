"""The live agent plays the episodes that the search graph holds, whatever company its queries have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.bench import Bench
from searchrl.agent.policy import Policy
from searchrl.agent.rollout import walk
from searchrl.agent.trainer import greedy_episodes
from searchrl.config import PolicyName
from searchrl.env.build import build_graph
from searchrl.env.game import Game
from searchrl.env.graph import GraphTensors, RewardRules
from searchrl.env.live import Episode, play_live
from tests.service.parts import Overlap

CASES = {
    "gru": ("gru", False, {}),
    "mlp": ("mlp", False, {"fusion": "rrf", "max_steps": 4}),
    "judge": ("gru", True, {"judge_depth": 10, "trust": (0.3,)}),
    "auto search": ("gru", False, {"auto_search": True, "max_steps": 4}),
}


class Counting(Overlap):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def score(self, queries, documents):
        self.asked += zip(queries, documents, strict=True)
        return super().score(queries, documents)


def policy_for(tensors: GraphTensors, kind: PolicyName) -> Policy:
    """A random policy that does not do the same everywhere; the same one every time."""
    for seed in range(50):
        torch.manual_seed(seed)
        policy = Policy(tensors.query_vectors.shape[-1], tensors.features.shape[-1], kind, hidden=8)
        policy.standardise(tensors.features)
        with torch.no_grad():
            policy.action_head.weight.normal_(0, 0.2)
        if len(greedy_episodes(policy, tensors)[0].unique()) > 2:
            return policy
    raise AssertionError("no such policy")


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def played(request: pytest.FixtureRequest, bench: Bench) -> tuple[Game, GraphTensors, Policy, list[str], list[Episode]]:
    kind, judge, rules = CASES[request.param]
    parts = bench.game
    game = Game(
        parts.corpus, parts.retriever, parts.reformulator, Overlap() if judge else None, replace(parts.rules, **rules)
    )
    queries = bench.queries("train")
    graph = build_graph(game, queries)
    tensors = GraphTensors(graph, RewardRules("qrels", 0.001))
    policy = policy_for(tensors, kind)
    ends, _ = greedy_episodes(policy, tensors)
    episodes = play_live(policy, game, list(queries.texts))
    final = graph.final_ranking(ends.numpy())
    behaviour = walk(policy, tensors, torch.arange(len(graph)))
    for row, (end, episode) in enumerate(zip(ends.tolist(), episodes, strict=True)):
        actions = [step.action for step in episode.steps]
        assert [a for a in actions if a != 3] == graph.tree.actions_to(end)
        assert episode.final is not None
        np.testing.assert_allclose(episode.final.scores[0], final.scores[row], atol=1e-5)
        for node, step in zip(graph.tree.path(end), episode.steps, strict=False):
            said = behaviour.log_probs[row, node].exp().detach().numpy()
            for name, probability in step.probabilities.items():
                assert probability == pytest.approx(
                    said[["search", "narrow", "broaden", "terminate"].index(name)], abs=1e-3
                )
            assert sum(step.probabilities.values()) == pytest.approx(1.0, abs=1e-4)
    return game, tensors, policy, list(queries.texts), episodes


def test_alone_as_in_company(played: tuple[Game, GraphTensors, Policy, list[str], list[Episode]]) -> None:
    game, _, policy, texts, together = played
    for text, expected in zip(texts, together, strict=True):
        (alone,) = play_live(policy, game, [text])
        assert [step.action for step in alone.steps] == [step.action for step in expected.steps]
        assert alone.final is not None
        assert expected.final is not None
        np.testing.assert_allclose(alone.final.scores, expected.final.scores, atol=1e-5)


def test_trace_says_what_each_step_left(played: tuple[Game, GraphTensors, Policy, list[str], list[Episode]]) -> None:
    game, _, _, texts, episodes = played
    for text, episode in zip(texts, episodes, strict=True):
        first = episode.steps[0]
        assert (first.action.name, first.query, first.lexical_share) == ("SEARCH", text, 0.0)
        assert first.similarity == pytest.approx(1.0)
        for step in episode.steps:
            searched = step.action.name == "SEARCH" or (game.rules.auto_search and step.action.name != "TERMINATE")
            assert (step.ranking is not None) == searched


def test_no_queries_no_episodes(bench: Bench) -> None:
    assert play_live(Policy(384, len(bench.game.feature_names)), bench.game, []) == []


def test_the_judge_is_asked_once_for_each_pair(bench: Bench) -> None:
    parts, judge = bench.game, Counting()
    game = Game(
        parts.corpus, parts.retriever, parts.reformulator, judge, replace(parts.rules, judge_depth=10, trust=(0.3,))
    )
    queries = bench.queries("train")
    tensors = GraphTensors(build_graph(game, queries), RewardRules("qrels", 0.001))
    judge.asked.clear()
    play_live(policy_for(tensors, "gru"), game, list(queries.texts))
    assert judge.asked
    assert len(judge.asked) == len(set(judge.asked))
