"""Episodes played by a policy, side by side on a search graph, and all that learning needs to know of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from searchrl.agent.policy import Policy
from searchrl.env.batched import BatchedSearchEnv, GraphTensors
from searchrl.env.tree import N_ACTIONS

OVER = -1
"""The situation of all episodes that have ended."""


@dataclass(frozen=True)
class Episodes:
    """b episodes of at most T steps. What lies beyond an episode's end means nothing but for ``rewards``, 0 there."""

    running: Tensor
    """(T, b) bool: the episode takes this step."""
    choice: Tensor
    """(T, b) bool: and has more than one action to choose from."""
    actions: Tensor
    """(T, b)"""
    log_probs: Tensor
    """(T, b) of the actions taken."""
    entropy: Tensor
    """(T, b) in nats, over all actions."""
    values: Tensor
    """(T, b) what the policy expected to earn from here on."""
    rewards: Tensor
    """(T, b)"""
    ends: Tensor
    """(b,) the states they ended in."""


def play(policy: Policy, graph: GraphTensors, rows: Tensor, choose: Callable[[Tensor], Tensor]) -> Episodes:
    """Play one episode for each query row (b,); ``choose`` maps (b, 4) log-probabilities to (b,) actions.

    Differentiable in ``log_probs``, ``entropy`` and ``values``. Episodes of one query that took the same actions are in
    the same situation, and the policy looks at each situation once.
    """
    env = BatchedSearchEnv(graph)
    seen = env.reset(rows)
    memory, last = policy.start(1)[0], torch.full_like(rows, N_ACTIONS)
    situation, place = rows, torch.zeros_like(rows)  # situations by number; and by their place in the policy's batch
    everyone = torch.arange(len(rows), device=rows.device)
    steps: list[dict[str, Tensor]] = []
    while not bool(env.done.all()):
        distinct, new_place = torch.unique(situation, return_inverse=True)
        one = torch.empty_like(distinct).scatter_(0, new_place, everyone)  # an episode in each situation
        out = policy(seen.take(one), last[one], memory[place[one]])
        memory, place = out.hidden, new_place
        log_probs = out.log_probs[place]
        finite = log_probs.masked_fill(log_probs == float("-inf"), 0.0)
        last = choose(log_probs.detach())
        running, mask = ~env.done, seen.mask
        seen, reward, _ = env.step(last)
        situation = torch.where(env.done, OVER, place * N_ACTIONS + last)
        steps.append(
            {
                "running": running,
                "choice": running & (mask.sum(dim=1) > 1),
                "actions": last,
                "log_probs": log_probs.gather(1, last[:, None])[:, 0],
                "entropy": -(finite.exp() * finite * mask).sum(dim=1),
                "values": out.value[place],
                "rewards": reward,
            }
        )
    return Episodes(**{name: torch.stack([step[name] for step in steps]) for name in steps[0]}, ends=env.nodes)
