"""What the trainer makes of its settings: loss aversion and the curriculum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from searchrl.agent.strategies import best_fixed
from searchrl.agent.trainer import Trainer, greedy_episodes
from searchrl.config import LearningConfig
from searchrl.env.features import (
    GROUPS,
    PROBE_FEATURES,
    QUERY_FEATURES,
    RANKING_FEATURES,
    REWARD_FEATURES,
    members,
)
from searchrl.env.graph import GraphTensors, RewardRules
from searchrl.errors import ConfigError
from tests.toy import toy_graph

GRAPH = toy_graph(n=60, seed=5)
RULES = RewardRules("qrels", 0.0)


def test_losses_against_the_best_sequence_count_more_and_gains_as_they_are() -> None:
    plain = GraphTensors(GRAPH, RULES)
    averse = plain.with_loss_aversion(2.0)
    ends, best = plain.tree.searched_nodes, best_fixed(GRAPH, RULES)
    gains, held = plain.end_gain[:, ends], plain.end_gain[:, [best]]
    less = gains < held
    torch.testing.assert_close(averse.end_gain[:, ends][~less], gains[~less])
    torch.testing.assert_close(averse.end_gain[:, ends][less], (gains - (held - gains))[less])
    empty = plain.tree.search_slot < 0
    assert averse.end_gain[:, empty].equal(plain.end_gain[:, empty])
    assert plain.with_loss_aversion(1.0).end_gain.equal(plain.end_gain)
    assert plain.end_gain[:, ends].equal(gains), "the original is left alone"


@pytest.mark.parametrize(("loss_aversion", "searches"), [(2.0, 2), (0.2, 1)])
def test_the_best_sequence_is_kept_or_left_by_what_a_loss_counts(loss_aversion: float, searches: int) -> None:
    """Two queries in three gain .1 by BROADEN, one loses .1, and nothing tells them apart."""
    gains = np.full_like(GRAPH.gains["qrels"], 0.5)
    gains[:, 1:] = 0.2
    gains[:, 2] = np.where(np.arange(60) % 3 == 0, 0.4, 0.6)
    features = np.zeros_like(GRAPH.features)
    features[:] = GRAPH.tree.step[:, None]
    blind = GraphTensors(replace(GRAPH, gains={"qrels": gains}, features=features), RULES)
    config = LearningConfig(seed=1, episodes=5_000, loss_aversion=loss_aversion)
    trainer = Trainer(blind, blind, config, GRAPH.dim)
    trainer.run(lambda _: None)
    ends, _ = greedy_episodes(trainer.policy, blind)
    assert (GRAPH.tree.searches[ends.numpy()] == searches).all()
    assert trainer.evaluate().gain == pytest.approx(0.5 + (0.1 / 3 if searches == 2 else 0), abs=1e-6), "as it is"


@pytest.mark.parametrize("estimator", ["exact", "reinforce"])
def test_the_curriculum_draws_hard_queries_after_the_warm_up(estimator: str) -> None:
    """A third of the toy's queries gain .9 by one plain search, the others .5."""
    graph = GraphTensors(GRAPH, RULES)
    hard = graph.single_gain < 0.6
    share = float(hard.float().mean())
    config = LearningConfig(curriculum=True, hard_ratio=0.2, warm_up=128, estimator=estimator)  # type: ignore[arg-type]
    trainer = Trainer(graph, graph, config, GRAPH.dim)

    def drawn() -> float:
        return float(hard[torch.cat([trainer._draw() for _ in range(300)])].float().mean())

    assert drawn() == pytest.approx(share, abs=0.03)
    trainer.episode = 128
    assert drawn() == pytest.approx(0.2, abs=0.03)


def test_a_curriculum_without_hard_queries_changes_nothing() -> None:
    graph = GraphTensors(GRAPH, RULES)
    trainer = Trainer(graph, graph, LearningConfig(curriculum=True, warm_up=0, hard_threshold=0.0), GRAPH.dim)
    assert trainer._hard_weights.equal(graph.weights)


def test_what_is_hidden_makes_no_difference() -> None:
    names = tuple("level_top" if i == 0 else name for i, name in enumerate(GRAPH.feature_names))
    graph = GraphTensors(replace(GRAPH, feature_names=names), RULES)
    rows, nodes = torch.arange(graph.size), torch.full((graph.size,), int(graph.tree.searched_nodes[0]))
    seen = graph.observe(rows, nodes, 1)
    features = seen.features.clone()
    features[:, 0] += 1.0
    for hide, same in (("overlap, level", True), ("overlap", False)):
        policy = Trainer(graph, graph, LearningConfig(hide=hide), GRAPH.dim).policy
        memory, last = policy.start(graph.size)
        with torch.no_grad():
            before, after = (policy(s, last, memory).log_probs for s in (seen, replace(seen, features=features)))
        assert torch.equal(before, after) == same


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(ConfigError, match="no group of features 'levle'; did you mean 'level'"):
        members("levle")


def test_every_feature_but_the_step_is_in_one_group() -> None:
    grouped = [name for group in GROUPS for name in members(group)]
    assert sorted([*grouped, "step", "searched"]) == sorted(
        [*RANKING_FEATURES, *PROBE_FEATURES, *REWARD_FEATURES, *QUERY_FEATURES]
    )
