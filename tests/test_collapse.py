"""The known failure, and the warning that now says so: without the mask, under the old settings, the agent gives up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from searchrl.agent.reinforce import UpdateReport
from searchrl.agent.trainer import Trainer, collapsed, greedy_episodes
from searchrl.config import LearningConfig
from searchrl.env.graph import GraphTensors, RewardRules, SearchGraph
from searchrl.env.tree import Action
from tests.toy import toy_graph

OLD = RewardRules("qrels", step_penalty=0.05, empty_penalty=0.0)
"""A dear step, and no price for ending empty-handed."""


def as_the_list_ideal_sees_it(graph: SearchGraph) -> SearchGraph:
    """Each list measured against its own best order: good and bad lists look alike."""
    rng = np.random.default_rng(0)
    flat = rng.normal(0.75, 0.02, graph.gains["qrels"].shape).astype(np.float32)
    return replace(graph, gains={"qrels": flat})


def train(
    graph: SearchGraph, mask: bool, rules: RewardRules, learning: LearningConfig
) -> tuple[Trainer, list[UpdateReport]]:
    tensors = GraphTensors(graph, rules, use_mask=mask)
    trainer, reports = Trainer(tensors, tensors, learning, graph.dim), []
    trainer.run(lambda progress: reports.append(progress.report))
    return trainer, reports


def test_without_mask_the_old_settings_collapse_and_it_is_noticed() -> None:
    old = LearningConfig(seed=0, estimator="reinforce", entropy=0.01)
    trainer, reports = train(as_the_list_ideal_sees_it(toy_graph(seed=100)), False, OLD, old)
    ends, steps = greedy_episodes(trainer.policy, trainer.dev_graph)
    assert len(set(ends.tolist())) == 1, "every query should end alike"
    assert int(trainer.train_graph.tree.searches[int(ends[0])]) <= 1
    assert float(steps.float().mean()) <= 2
    assert collapsed(reports[-1])
    assert reports[-1].commonest[-1] == Action.TERMINATE
    assert not collapsed(reports[0])


def test_with_mask_and_todays_settings_it_does_not() -> None:
    trainer, reports = train(toy_graph(seed=100), True, RewardRules("qrels"), LearningConfig(seed=0))
    ends, _ = greedy_episodes(trainer.policy, trainer.dev_graph)
    assert not collapsed(reports[-1])
    assert len(set(ends.tolist())) > 1
    gain = trainer.dev_graph.end_gain[torch.arange(len(ends)), ends].mean()
    assert float(gain) > 0.8
