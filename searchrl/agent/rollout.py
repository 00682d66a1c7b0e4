"""A policy at play on a search graph: episodes side by side, or its whole behaviour, what it would do in every state.

``play`` gives all that learning needs to know of episodes. ``walk`` samples nothing, because the tree is small: visit
probabilities and expected returns are exact. It works only under the mask, where a state is reached in one way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from searchrl.agent.policy import Policy
from searchrl.env.graph import BatchedSearchEnv, GraphTensors
from searchrl.env.tree import Action, Tree

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
    """Play one episode for each query row (b,); ``choose`` maps (b, A) log-probabilities to (b,) actions.

    Differentiable in ``log_probs``, ``entropy`` and ``values``. Episodes of one query that took the same actions are in
    the same situation, and the policy looks at each situation once.
    """
    env = BatchedSearchEnv(graph)
    seen = env.reset(rows)
    actions = graph.tree.n_actions
    memory, last = policy.start(1)[0], torch.full_like(rows, actions)
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
        situation = torch.where(env.done, OVER, place * actions + last)
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


@dataclass(frozen=True)
class Walk:
    """Behaviour on b queries over S states. Where steps have run out, all that can be done is TERMINATE."""

    choice: Tensor
    """(S,) bool: there is more than one thing to do."""
    log_probs: Tensor
    """(b, S, A) action log-probabilities in each state; -inf for what cannot be done."""
    entropy: Tensor
    """(b, S) in nats."""
    visits: Tensor
    """(b, S) probability that an episode comes by."""
    ends: Tensor
    """(b, S) probability that it ends there."""
    returns: Tensor
    """(b,) exact expected return."""


def walk(policy: Policy, graph: GraphTensors, rows: Tensor) -> Walk:
    """Run the policy down the whole tree of query ``rows`` (b,). Differentiable."""
    possible = graph.legal  # (S, A)
    if graph.tree.n_shares == 1:
        only_end = torch.arange(graph.tree.n_actions, device=graph.device) == Action.TERMINATE
        possible = torch.where((graph.steps < graph.max_steps)[:, None], possible, only_end)
    choice = possible.sum(dim=1) > 1
    decided = _decide(policy, graph, rows, int(graph.steps[choice].max()))
    rest = possible[decided.shape[1] :].float().log()  # beyond the last choice: one thing to do, of probability 1
    log_probs = torch.cat([decided, rest.expand(len(rows), -1, -1)], dim=1)
    probs = log_probs.exp()
    visits = _visits(graph.tree, probs)
    ends = visits * probs[:, :, Action.TERMINATE] * (graph.children[:, Action.TERMINATE] < 0)
    return Walk(
        choice=choice,
        log_probs=log_probs,
        entropy=-(probs * log_probs.masked_fill(log_probs == float("-inf"), 0.0)).sum(dim=2),
        visits=visits,
        ends=ends,
        returns=(ends * (graph.end_gain[rows] - graph.rules.step_penalty * graph.taken)).sum(dim=1),
    )


def _decide(policy: Policy, graph: GraphTensors, rows: Tensor, last_step: int) -> Tensor:
    """Action log-probabilities in the states D of the first steps up to ``last_step``: (b, D, A).

    What needs no memory goes through the network for all states at once, the rest level by level; siblings share
    their parent's memory.
    """
    tree, sizes = graph.tree, _level_sizes(graph.tree)[: last_step + 1]
    nodes = torch.arange(sum(sizes), device=rows.device)[:, None]
    came_by = [tree.n_actions if state.action is None else state.action for state in tree.states[: len(nodes)]]
    last = torch.tensor(came_by, device=rows.device)[:, None].expand(-1, len(rows))
    seen = graph.observe(rows, nodes, graph.steps[nodes])
    memory, _ = policy.start(1)
    memories = []
    for present in torch.split(policy.perceive(seen, last), sizes):
        siblings = torch.unflatten(present, 0, (len(memory), -1))  # (parents, children of each, b, width)
        memory = policy.recur(siblings, memory.unsqueeze(1)).flatten(0, 1)
        memories.append(memory)
    return policy.decide(torch.cat(memories), seen).log_probs.transpose(0, 1)


def _level_sizes(tree: Tree) -> list[int]:
    """How many states, ends aside, there are after 0, 1, 2 ... steps.

    They lie level by level, children in their parents' order; those of one level have equally many children.
    """
    steps = tree.step[: tree.open_states].tolist()
    return [steps.count(step) for step in range(tree.max_steps + 1)]


def _visits(tree: Tree, probs: Tensor) -> Tensor:
    """(b, S), level by level: the parent's visits times the probability of the action that leads here."""
    sizes = _level_sizes(tree)
    came = [(state.parent, state.action) for state in tree.states if state.action is not None]
    parents, actions = torch.tensor(came, device=probs.device).T
    levels = [torch.ones_like(probs[:, :1, 0])]
    taken = torch.split(probs[:, parents, actions], [*sizes[1:], len(tree) - tree.open_states], dim=1)
    for here in taken[:-1]:
        before = levels[-1]
        levels.append(before.repeat_interleave(here.shape[1] // before.shape[1], dim=1) * here)
    visits = torch.cat(levels, dim=1)
    return torch.cat([visits, visits[:, parents[tree.open_states - 1 :]] * taken[-1]], dim=1)
