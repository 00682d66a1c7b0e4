"""Several collections' graphs joined into one: every query keeps what it had, and every collection counts the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from searchrl.agent import strategies
from searchrl.agent.trainer import Trainer, greedy_episodes
from searchrl.config import LearningConfig
from searchrl.env.graph import GraphTensors, RewardRules, join, query_weights
from searchrl.errors import ConfigError
from tests.toy import toy_graph

RULES = RewardRules("qrels", 0.002)
SMALL, LARGE = toy_graph(n=20, seed=1), toy_graph(n=180, seed=2)
POOLED = replace(LARGE, pool=np.arange(360, dtype=np.int32).reshape(180, 2), pool_scores=np.ones((180, 2), np.float32))


def test_every_query_keeps_its_row() -> None:
    both = join([SMALL, POOLED])
    assert len(both) == 200
    assert both.query_ids == [*SMALL.query_ids, *LARGE.query_ids]
    for name in ("features", "query_vectors", "result_vectors", "searched", "final", "final_scores", "reward_calls"):
        np.testing.assert_array_equal(getattr(both, name)[:20], getattr(SMALL, name))
        np.testing.assert_array_equal(getattr(both, name)[20:], getattr(LARGE, name))
    np.testing.assert_array_equal(both.state_gains("qrels")[20:], LARGE.state_gains("qrels"))
    assert (both.pool[:20] == -1).all()
    assert np.isnan(both.pool_scores[:20]).all()
    np.testing.assert_array_equal(both.pool[20:], POOLED.pool)
    assert [len(texts) for texts in both.texts] == [200] * len(SMALL.texts)
    assert join([SMALL]) is SMALL


def test_collections_count_the_same_whatever_their_size() -> None:
    both = join([SMALL, LARGE])
    weights = query_weights(both)
    assert weights[:20].sum() == pytest.approx(0.5)
    assert weights.sum() == pytest.approx(1.0)
    assert query_weights(LARGE) == pytest.approx(1 / 180)
    dev = GraphTensors(both, RULES)
    trainer = Trainer(dev, dev, LearningConfig(seed=0, episodes=256), both.dim)
    trainer.run(lambda _: None)
    alone = []
    for graph in (SMALL, LARGE):
        one = GraphTensors(graph, RULES)
        ends, steps = greedy_episodes(trainer.policy, one)
        gain = one.end_gain[torch.arange(one.size), ends].mean()
        alone.append(float(gain - RULES.step_penalty * steps.float().mean()))
    assert trainer.evaluate().score == pytest.approx(np.mean(alone), abs=1e-5)


def test_the_best_fixed_sequence_is_best_for_collections_not_queries() -> None:
    """One collection gains by the second slot what the other, nine times as large, loses in sum but not on average."""
    slots = SMALL.gains["qrels"].shape[1]
    gains = [np.zeros((len(graph), slots), dtype=np.float32) for graph in (SMALL, LARGE)]
    gains[0][:, 1], gains[1][:, 0] = 1.0, 0.5
    graphs = [replace(graph, gains={"qrels": g}) for graph, g in zip((SMALL, LARGE), gains, strict=True)]
    assert strategies.best_fixed(join(graphs), RewardRules("qrels", 0.0)) == SMALL.tree.searched_nodes[1]


def test_batches_draw_from_every_collection_alike() -> None:
    graph = GraphTensors(join([SMALL, LARGE]), RULES)
    for estimator in ("exact", "reinforce"):
        trainer = Trainer(graph, graph, LearningConfig(seed=3, estimator=estimator), 8)  # type: ignore[arg-type]
        rows = torch.cat([trainer._draw() for _ in range(200)])
        assert float((rows < 20).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="different games"):
        join([SMALL, toy_graph(n=5, max_steps=4)])
    with pytest.raises(ConfigError, match="no source of gains in common"):
        join([SMALL, replace(LARGE, gains={"reward": LARGE.gains["qrels"]})])
