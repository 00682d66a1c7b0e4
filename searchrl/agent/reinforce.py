"""REINFORCE on a search graph: sampled episodes with a choice of baseline, and the exact gradient beside them.

Williams (1992). Left out of the published family: importance weights, clipping, several epochs a batch. Every batch
is used once, with the policy that played it, so none is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from searchrl.agent.optimizer import Optimizer
from searchrl.agent.policy import Policy
from searchrl.agent.rollout import play, walk
from searchrl.config import LearningConfig
from searchrl.env.graph import GraphTensors
from searchrl.env.tree import N_ACTIONS, Action
from searchrl.errors import DivergedError

VALUE_WEIGHT = 0.5
"""Of the value's loss beside the policy's, where the value is the baseline."""
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class UpdateReport:
    """What one update saw, for the logs."""

    episode_return: float
    policy_loss: float
    value_loss: float
    entropy: float
    actions: list[float]
    """Share of each action among all steps, as in the tables of an evaluation."""
    commonest: list[int]
    """The action sequence that most episodes of the batch played."""
    commonest_share: float
    """Share of the episodes that played it: 1 when every query is treated alike."""
    grad_norm: float = 0.0
    """Before clipping."""


def update(
    policy: Policy,
    optimizer: Optimizer,
    graph: GraphTensors,
    rows: Tensor,
    rules: LearningConfig,
    entropy_weight: float,
    generator: torch.Generator,
) -> UpdateReport:
    """Play one batch of episodes on query ``rows`` (b,) and take one step.

    With ``leave_one_out`` the rows come in runs of ``rules.rollouts`` of the same query. Raises DivergedError where
    loss, gradient or new weights are not finite.
    """
    if rules.estimator == "exact":
        loss, report = _exact(policy, graph, rows, entropy_weight)
    else:
        loss, report = _sampled(policy, graph, rows, rules, entropy_weight, generator)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = float(torch.nn.utils.clip_grad_norm_(policy.parameters(), MAX_GRAD_NORM))
    check_finite({"loss": float(loss.detach()), "norm of the gradient": norm})
    optimizer.step()
    check_finite({"largest weight": max(float(weight.detach().abs().max()) for weight in policy.parameters())})
    return replace(report, grad_norm=norm)


def check_finite(values: Mapping[str, float]) -> None:
    """Raise DivergedError naming the first value that is not finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergedError(f"the {name} is {value}")


def _sampled(
    policy: Policy,
    graph: GraphTensors,
    rows: Tensor,
    rules: LearningConfig,
    entropy_weight: float,
    generator: torch.Generator,
) -> tuple[Tensor, UpdateReport]:
    def draw(log_probs: Tensor) -> Tensor:
        return torch.multinomial(log_probs.exp().cpu(), 1, generator=generator)[:, 0].to(rows.device)

    seen = play(policy, graph, rows, draw)
    live = seen.running.float()
    to_go = seen.rewards.flip(0).cumsum(0).flip(0)
    advantage = (to_go - _baseline(rules, seen.values, to_go, seen.rewards)) / graph.spread
    n_choices = seen.choice.sum().clamp(min=1)
    policy_loss = -(seen.log_probs * advantage.detach() * seen.choice).sum() / len(rows)
    value_loss = ((seen.values - to_go) ** 2 * live).sum() / live.sum() / graph.spread**2
    entropy = (seen.entropy * seen.choice).sum() / n_choices
    loss = policy_loss - entropy_weight * entropy
    if rules.baseline == "value":
        loss = loss + VALUE_WEIGHT * value_loss
    counts = torch.bincount(seen.actions[seen.running].clamp(max=Action.TERMINATE), minlength=N_ACTIONS).float()
    commonest, share = _commonest(seen.actions.masked_fill(~seen.running, -1))
    return loss, UpdateReport(
        episode_return=float(to_go[0].mean()),
        policy_loss=float(policy_loss.detach()),
        value_loss=float(value_loss.detach()),
        entropy=float(entropy.detach()),
        actions=(counts / counts.sum().clamp(min=1)).tolist(),
        commonest=commonest,
        commonest_share=share,
    )


def _commonest(played: Tensor) -> tuple[list[int], float]:
    """Most frequent column of (T, b) actions, -1 after an episode's end, and its share of the columns."""
    sequences, counts = torch.unique(played, dim=1, return_counts=True)
    most = int(counts.argmax())
    return [a for a in sequences[:, most].tolist() if a >= 0], float(counts[most] / counts.sum())


def _baseline(rules: LearningConfig, value: Tensor, to_go: Tensor, reward: Tensor) -> Tensor:
    if rules.baseline == "value":
        return value.detach()
    if rules.baseline == "none":
        return torch.zeros_like(to_go)
    # What the other episodes of the same query earned in all, less what this one has been paid so far, so that the
    # difference is of whole returns (Kool, van Hoof and Welling 2019).
    total = to_go[0].view(-1, rules.rollouts)
    others = (total.sum(dim=1, keepdim=True) - total) / (rules.rollouts - 1)
    paid = reward.cumsum(0) - reward
    return others.reshape(1, -1) - paid


def _exact(policy: Policy, graph: GraphTensors, rows: Tensor, entropy_weight: float) -> tuple[Tensor, UpdateReport]:
    seen = walk(policy, graph, rows)
    expected = seen.returns.mean()
    weight = seen.visits.detach() * seen.choice
    entropy = (seen.entropy * weight).sum() / weight.sum().clamp(min=1e-9)
    loss = -expected / graph.spread - entropy_weight * entropy
    ends = seen.ends.detach().mean(dim=0)
    end = int(ends.argmax())
    steps = seen.visits.detach() * (graph.steps < graph.max_steps)  # where an episode is cut off, no step is taken
    taken = (seen.log_probs.detach().exp() * steps[:, :, None]).sum(dim=(0, 1))
    share = torch.cat([taken[: Action.TERMINATE], taken[Action.TERMINATE :].sum(dim=0, keepdim=True)])
    return loss, UpdateReport(
        episode_return=float(expected.detach()),
        policy_loss=-float(expected.detach()) / graph.spread,
        value_loss=0.0,
        entropy=float(entropy.detach()),
        actions=(share / share.sum().clamp(min=1e-9)).tolist(),
        commonest=graph.tree.actions_to(end),
        commonest_share=float(ends[end]),
    )
