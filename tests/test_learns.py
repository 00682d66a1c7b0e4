"""The agent learns what it should: to look before it acts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from searchrl.agent.strategies import returns
from searchrl.agent.trainer import Trainer
from searchrl.config import LearningConfig
from searchrl.env.graph import GraphTensors, RewardRules
from searchrl.errors import ConfigError
from tests.toy import expected_return, toy_graph

PENALTY = 0.002


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss_aversion": 1.0},
        {"loss_aversion": 1.0, "estimator": "reinforce"},
        {"loss_aversion": 1.0, "estimator": "reinforce", "baseline": "value"},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())) or "defaults",
)
def test_reaches_the_oracle_and_beats_every_fixed_sequence(seed: int, settings: dict[str, Any]) -> None:
    train, held_out = toy_graph(seed=100), toy_graph(seed=200)
    rules = RewardRules("qrels", PENALTY)
    config = LearningConfig(seed=seed, **settings)
    trainer = Trainer(GraphTensors(train, rules), GraphTensors(held_out, rules), config, train.dim)
    trainer.run(lambda _: None)
    paid = returns(held_out, RewardRules("qrels", PENALTY))
    oracle, fixed = float(paid.max(axis=1).mean()), float(paid.mean(axis=0).max())
    learned = expected_return(trainer.policy, GraphTensors(held_out, rules))
    assert learned >= 0.95 * oracle
    assert trainer.evaluate().score >= 0.95 * oracle
    assert learned > fixed + 0.1


@pytest.mark.parametrize("estimator", ["exact", "reinforce"])
def test_learns_how_far_to_trust(estimator: str) -> None:
    train, held_out = toy_graph(seed=100, n_shares=3), toy_graph(seed=200, n_shares=3)
    rules = RewardRules("qrels", PENALTY)
    config = LearningConfig(seed=0, estimator=estimator, loss_aversion=1.0)
    trainer = Trainer(GraphTensors(train, rules), GraphTensors(held_out, rules), config, train.dim)
    trainer.run(lambda _: None)
    paid = returns(held_out, RewardRules("qrels", PENALTY))
    assert trainer.evaluate().score >= 0.95 * float(paid.max(axis=1).mean())
    assert trainer.evaluate().score > float(paid.mean(axis=0).max()) + 0.1


def test_untrained_policy_is_far_from_it() -> None:
    graph = toy_graph(seed=100)
    tensors = GraphTensors(graph, RewardRules("qrels", PENALTY))
    trainer = Trainer(tensors, tensors, LearningConfig(seed=0), graph.dim)
    assert expected_return(trainer.policy, tensors) < 0.7 * float(returns(graph, tensors.rules).max(axis=1).mean())


def test_same_seed_same_weights_other_seed_other_weights() -> None:
    graph = toy_graph()
    tensors = GraphTensors(graph, RewardRules("qrels", PENALTY))

    def weights(seed: int) -> np.ndarray:
        trainer = Trainer(tensors, tensors, LearningConfig(seed=seed, episodes=640), graph.dim)
        trainer.run(lambda _: None)
        return torch.cat([p.detach().flatten() for p in trainer.policy.parameters()]).numpy()

    np.testing.assert_array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


def test_without_the_mask_there_is_no_exact_gradient() -> None:
    graph = toy_graph()
    free = GraphTensors(graph, RewardRules("qrels", PENALTY), use_mask=False)
    with pytest.raises(ConfigError, match=r"`estimator` exact needs the action mask.*`estimator` reinforce"):
        Trainer(free, free, LearningConfig(estimator="exact"), graph.dim)
