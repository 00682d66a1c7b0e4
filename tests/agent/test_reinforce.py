"""The sampled gradient estimates the exact one, whatever it is compared with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from searchrl.agent import reinforce
from searchrl.agent.policy import Policy
from searchrl.agent.reinforce import UpdateReport, update
from searchrl.config import LearningConfig
from searchrl.env.graph import GraphTensors, RewardRules
from searchrl.env.tree import N_ACTIONS
from tests.agent.conftest import PolicyMaker
from tests.toy import expected_return, toy_graph

N = 3
GRAPH = toy_graph(n=N)
TENSORS = GraphTensors(GRAPH, RewardRules("qrels", 0.02))
MANY = 6_000


def gradient(
    policy: Policy, rows: Tensor, entropy_weight: float = 0.0, graph: GraphTensors = TENSORS, **rules: object
) -> tuple[Tensor, UpdateReport]:
    """Gradient that ``update`` would follow but for clipping, flat, and its report; the policy stays as it is."""
    learning = LearningConfig(**{"estimator": "reinforce", **rules})  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    generator = torch.Generator().manual_seed(11)
    report = update(policy, optimizer, graph, rows, learning, entropy_weight, generator)
    return unclipped(policy, report), report


def unclipped(policy: Policy, report: UpdateReport) -> Tensor:
    flat = [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten().clone() for p in policy.parameters()]
    return torch.cat(flat) * max(1.0, report.grad_norm / reinforce.MAX_GRAD_NORM)


def sampled_rows(rollouts: int) -> Tensor:
    """Each query MANY times, in runs of ``rollouts``."""
    return torch.arange(N).repeat_interleave(rollouts).repeat(MANY // rollouts)


@pytest.mark.parametrize(
    ("kind", "baseline", "rollouts", "entropy_weight"),
    [("gru", "leave_one_out", 2, 0.0), ("mlp", "leave_one_out", 4, 0.3), ("gru", "none", 1, 0.0)],
)
def test_many_sampled_gradients_average_to_the_exact_one(
    decided_policy: PolicyMaker, kind: str, baseline: str, rollouts: int, entropy_weight: float
) -> None:
    policy = decided_policy(TENSORS, kind)
    exact, exactly = gradient(policy, torch.arange(N), entropy_weight, estimator="exact")
    sampled, about = gradient(policy, sampled_rows(rollouts), entropy_weight, baseline=baseline, rollouts=rollouts)
    assert exact.norm() > 0.01, "there is something to learn"
    assert float((sampled - exact).norm() / exact.norm()) < 0.05
    assert about.episode_return == pytest.approx(exactly.episode_return, abs=0.01)
    assert about.entropy == pytest.approx(exactly.entropy, abs=0.01)
    assert about.actions == pytest.approx(exactly.actions, abs=0.01)


def test_the_learned_value_is_a_baseline_that_biases_nothing(
    decided_policy: PolicyMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apart from the value's own loss, which is switched off here."""
    monkeypatch.setattr(reinforce, "VALUE_WEIGHT", 0.0)
    policy = decided_policy(TENSORS)
    exact, _ = gradient(policy, torch.arange(N), estimator="exact")
    sampled, _ = gradient(policy, sampled_rows(1), baseline="value")
    assert float((sampled - exact).norm() / exact.norm()) < 0.05


def test_the_exact_gradient_is_that_of_the_expected_return(decided_policy: PolicyMaker) -> None:
    policy = decided_policy(TENSORS)
    exact, report = gradient(policy, torch.arange(N), estimator="exact")
    assert report.episode_return == pytest.approx(expected_return(policy, TENSORS), abs=1e-6)
    direction = torch.randn(len(exact), generator=torch.Generator().manual_seed(0))
    weights = torch.nn.utils.parameters_to_vector(policy.parameters()).detach()

    def moved(step: float) -> float:
        torch.nn.utils.vector_to_parameters(weights + step * direction, policy.parameters())
        return expected_return(policy, TENSORS)

    slope = (moved(1e-3) - moved(-1e-3)) / 2e-3 / TENSORS.spread
    assert -float(exact @ direction) == pytest.approx(slope, rel=0.02, abs=1e-3)


def test_leave_one_out_is_quieter_than_no_baseline(decided_policy: PolicyMaker) -> None:
    policy = decided_policy(TENSORS)
    exact, _ = gradient(policy, torch.arange(N), estimator="exact")
    noise = {}
    for baseline in ("none", "leave_one_out"):
        errors = []
        for seed in range(12):
            rows = torch.arange(N).repeat_interleave(4).repeat(8)
            torch.manual_seed(seed)
            learning = LearningConfig(estimator="reinforce", baseline=baseline)  # type: ignore[arg-type]
            generator = torch.Generator().manual_seed(seed)
            still = torch.optim.SGD(policy.parameters(), lr=0.0)
            found = unclipped(policy, update(policy, still, TENSORS, rows, learning, 0.0, generator))
            errors.append(float((found - exact).square().sum()))
        noise[baseline] = np.mean(errors)
    assert noise["leave_one_out"] < 0.7 * noise["none"]


def test_leave_one_out_of_equal_returns_teaches_nothing(decided_policy: PolicyMaker) -> None:
    flat = toy_graph(n=N)
    flat.gains["qrels"][:] = 0.4  # type: ignore[index]
    found, _ = gradient(
        decided_policy(TENSORS), sampled_rows(2)[:200], graph=GraphTensors(flat, RewardRules("qrels", 0.0)), rollouts=2
    )
    assert found.abs().max() < 1e-7


@pytest.mark.parametrize("estimator", ["reinforce", "exact"])
def test_actions_are_shared_out_over_all_steps(decided_policy: PolicyMaker, estimator: str) -> None:
    policy = decided_policy(TENSORS)
    found, report = gradient(policy, sampled_rows(4)[:400], 0.1, estimator=estimator)
    assert torch.isfinite(found).all()
    assert np.isfinite([report.policy_loss, report.entropy, report.grad_norm]).all()
    assert 0.2 < report.actions[0] < 0.6, "every reformulation is followed by a SEARCH, though there is no choice"
    assert sum(report.actions) == pytest.approx(1.0, abs=1e-5)
    assert 0 < report.entropy <= np.log(3) + 1e-6


def test_without_mask_every_action_is_played(decided_policy: PolicyMaker) -> None:
    free = GraphTensors(GRAPH, RewardRules("qrels", 0.02), use_mask=False)
    _, report = gradient(decided_policy(TENSORS), sampled_rows(4)[:4000], 0.1, graph=free)
    assert len(report.actions) == N_ACTIONS
    assert min(report.actions) > 0


def test_same_generator_same_step_and_another_another(decided_policy: PolicyMaker) -> None:
    def weights(seed: int) -> Tensor:
        policy = decided_policy(TENSORS)
        optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
        learning, generator = LearningConfig(estimator="reinforce"), torch.Generator().manual_seed(seed)
        update(policy, optimizer, TENSORS, sampled_rows(4)[:64], learning, 0.01, generator)
        return torch.nn.utils.parameters_to_vector(policy.parameters()).detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_gradients_are_clipped_and_the_norm_before_is_reported(
    decided_policy: PolicyMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reinforce, "MAX_GRAD_NORM", 1e-3)
    policy = decided_policy(TENSORS)
    optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
    before = torch.nn.utils.parameters_to_vector(policy.parameters()).detach().clone()
    rules = LearningConfig(estimator="exact")
    report = update(policy, optimizer, TENSORS, torch.arange(N), rules, 0.0, torch.Generator())
    after = torch.nn.utils.parameters_to_vector(policy.parameters()).detach()
    assert report.grad_norm > 1e-2
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=0.02)
