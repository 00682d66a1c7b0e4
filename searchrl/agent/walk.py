"""A policy's whole behaviour on a search graph: what it would do in every state of every query.

The tree is small, so nothing needs sampling: visit probabilities, expected returns and the greedy episode are exact.
Only under the mask, where no action is a no-op and a state is reached in one way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from searchrl.agent.policy import Policy
from searchrl.env.actions import Action
from searchrl.env.batched import GraphTensors
from searchrl.env.tree import ROOT


@dataclass(frozen=True)
class Walk:
    """Behaviour on b queries over S states."""

    log_probs: Tensor
    """(b, S, 4) action log-probabilities in each state; -inf where illegal."""
    entropy: Tensor
    """(b, S) in nats."""
    returns: Tensor
    """(b, S) exact expected return from each state on."""
    visits: Tensor
    """(b, S) probability that an episode comes by."""
    greedy: Tensor
    """(b,) state in which the greedy episode ends."""


def walk(policy: Policy, graph: GraphTensors, rows: Tensor) -> Walk:
    """Run the policy down the whole tree of query ``rows`` (b,). Differentiable in ``log_probs`` and ``returns``."""
    tree = graph.tree
    b, size = len(rows), len(tree)
    hidden: dict[int, Tensor] = {}
    log_probs: dict[int, Tensor] = {}
    start, none = policy.start(b)
    for level in _levels(tree.step.tolist()):
        # All states of one depth go through the network together, one block of b rows each.
        blocks = torch.as_tensor(level, device=rows.device).repeat_interleave(b)
        seen = graph.observe(rows.repeat(len(level)), blocks, int(tree.step[level[0]]))
        parents = [tree.states[node] for node in level]
        memory = torch.cat([start if s.action is None else hidden[s.parent] for s in parents])
        last = torch.cat([none if s.action is None else torch.full_like(none, int(s.action)) for s in parents])
        out = policy(seen, last, memory)
        for i, node in enumerate(level):
            block = slice(i * b, (i + 1) * b)
            hidden[node], log_probs[node] = out.hidden[block], out.log_probs[block]
    stacked = torch.stack([log_probs[node] for node in range(size)], dim=1)
    probs = stacked.exp()
    entropy = -(probs * stacked.masked_fill(stacked == float("-inf"), 0.0)).sum(dim=2)
    return Walk(
        log_probs=stacked,
        entropy=entropy,
        returns=_returns(graph, rows, probs),
        visits=_visits(graph, probs.detach()),
        greedy=_greedy(graph, stacked.detach()),
    )


def _levels(steps: list[int]) -> list[list[int]]:
    return [[n for n, s in enumerate(steps) if s == step] for step in range(max(steps) + 1)]


def _returns(graph: GraphTensors, rows: Tensor, probs: Tensor) -> Tensor:
    tree, penalty = graph.tree, graph.rules.step_penalty
    values: dict[int, Tensor] = {}
    for node in reversed(range(len(tree))):
        end = graph.end_gain[rows, node]
        if tree.states[node].step >= tree.max_steps:
            values[node] = end
            continue
        value = probs[:, node, Action.TERMINATE] * (end - penalty) if tree.legal[node, Action.TERMINATE] else 0.0
        for action in (Action.SEARCH, Action.NARROW, Action.BROADEN):
            child = int(tree.children[node, action])
            if child >= 0:
                value = value + probs[:, node, action] * (values[child] - penalty)
        values[node] = torch.as_tensor(value)
    return torch.stack([values[node] for node in range(len(tree))], dim=1)


def _visits(graph: GraphTensors, probs: Tensor) -> Tensor:
    tree = graph.tree
    visits = torch.zeros(probs.shape[:2], device=probs.device)
    visits[:, ROOT] = 1.0
    for node, state in enumerate(tree.states):
        if state.action is not None:
            visits[:, node] = visits[:, state.parent] * probs[:, state.parent, state.action]
    return visits


def _greedy(graph: GraphTensors, log_probs: Tensor) -> Tensor:
    best = log_probs.argmax(dim=2)
    rows = torch.arange(len(best), device=best.device)
    nodes = torch.full_like(rows, ROOT)
    for _ in range(graph.max_steps):
        following = graph.children[nodes, best[rows, nodes]]
        nodes = torch.where(following >= 0, following, nodes)
    return nodes
