"""A policy's exact behaviour on a small graph, against playing every episode, many episodes, and the greedy one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from searchrl.agent.policy import Policy
from searchrl.agent.rollout import Walk, walk
from searchrl.agent.trainer import greedy_episodes
from searchrl.env.graph import BatchedSearchEnv, GraphTensors, RewardRules
from searchrl.env.tree import ROOT, Action, Tree, build_tree
from tests.agent.conftest import PolicyMaker
from tests.toy import expected_return, toy_graph

N = 4
CASES = [
    ("gru", 5, "none", False),
    ("mlp", 5, "single_pass", False),
    ("gru", 4, "none", False),
    ("gru", 3, "none", False),
    ("gru", 3, "none", True),
    ("gru", 5, "none", False, 3),
    ("gru", 4, "single_pass", False, 2),
    ("mlp", 3, "none", True, 4),
]


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest, decided_policy: PolicyMaker) -> tuple[Policy, GraphTensors, Walk]:
    kind, max_steps, baseline, auto_search, *n_shares = request.param
    graph = toy_graph(n=N, max_steps=max_steps, auto_search=auto_search, n_shares=[*n_shares, 1][0])
    tensors = GraphTensors(graph, RewardRules("qrels", 0.01, baseline))
    policy = decided_policy(tensors, kind, hidden=12)
    with torch.no_grad():
        return policy, tensors, walk(policy, tensors, torch.arange(N))


def episodes(tree: Tree, node: int = ROOT) -> Iterator[list[int]]:
    """Every legal sequence of actions to an end: TERMINATE, or the last step where it has no argument."""
    if tree.step[node] == tree.max_steps and tree.n_shares == 1:
        yield []
        return
    for action in np.flatnonzero(tree.legal[node]).tolist():
        if action >= Action.TERMINATE:
            yield [action]
        else:
            for rest in episodes(tree, int(tree.children[node, action])):
                yield [action, *rest]


@torch.no_grad()
def play(policy: Policy, graph: GraphTensors, actions: list[int]) -> tuple[Tensor, Tensor, list[tuple[int, Tensor]]]:
    """One sequence on every query: its probability and return (N,), and each state with the chance to get there."""
    env = BatchedSearchEnv(graph)
    seen = env.reset(torch.arange(N))
    hidden, last = policy.start(N)
    chance, total = torch.ones(N), torch.zeros(N)
    visited = [(ROOT, chance)]
    for action in actions:
        out = policy(seen, last, hidden)
        last, hidden = torch.full((N,), action), out.hidden
        chance = chance * out.log_probs[:, action].exp()
        seen, reward, _ = env.step(last)
        total += reward
        if action < Action.TERMINATE or graph.tree.n_shares > 1:
            visited.append((int(env.nodes[0]), chance))
    assert bool(env.done.all())
    return chance, total, visited


def test_returns_and_visits_are_those_of_all_episodes_together(case: tuple[Policy, GraphTensors, Walk]) -> None:
    policy, graph, found = case
    expected, certain = torch.zeros(N), torch.zeros(N)
    visits: dict[int, Tensor] = {}
    for actions in episodes(graph.tree):
        chance, total, visited = play(policy, graph, actions)
        expected, certain = expected + chance * total, certain + chance
        visits |= dict(visited)
    torch.testing.assert_close(certain, torch.ones(N), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.returns, expected, atol=1e-5, rtol=0)
    assert sorted(visits) == list(range(len(graph.tree)))
    for node, chance in visits.items():
        torch.testing.assert_close(found.visits[:, node], chance, atol=1e-5, rtol=0)
    assert expected_return(policy, graph) == pytest.approx(float(expected.mean()), abs=1e-5)


def test_returns_and_visits_are_those_of_many_sampled_episodes(case: tuple[Policy, GraphTensors, Walk]) -> None:
    policy, graph, found = case
    many = 10_000
    rows = torch.arange(N).repeat_interleave(many)
    generator = torch.Generator().manual_seed(0)
    env = BatchedSearchEnv(graph)
    seen = env.reset(rows)
    hidden, last = policy.start(len(rows))
    total, came_by = torch.zeros(len(rows)), torch.zeros(len(rows), len(graph.tree))
    with torch.no_grad():
        while not bool(env.done.all()):
            came_by[torch.arange(len(rows)), env.nodes] = 1.0
            out = policy(seen, last, hidden)
            last, hidden = torch.multinomial(out.log_probs.exp(), 1, generator=generator)[:, 0], out.hidden
            seen, reward, _ = env.step(last)
            total += reward
    came_by[torch.arange(len(rows)), env.nodes] = 1.0
    torch.testing.assert_close(total.view(N, many).mean(dim=1), found.returns, atol=0.01, rtol=0)
    torch.testing.assert_close(came_by.view(N, many, -1).mean(dim=1), found.visits, atol=0.02, rtol=0)


def test_the_greedy_episode_takes_the_likeliest_action_in_every_state(case: tuple[Policy, GraphTensors, Walk]) -> None:
    policy, graph, found = case
    ends, steps = greedy_episodes(policy, graph)
    tree, best, nodes = graph.tree, found.log_probs.argmax(dim=2), torch.full((N,), ROOT)
    for _ in range(tree.max_steps + 1):
        following = graph.children[nodes, best[torch.arange(N), nodes]]
        nodes = torch.where(following >= 0, following, nodes)
    torch.testing.assert_close(nodes, ends)
    for node, taken in zip(ends.tolist(), steps.tolist(), strict=True):
        assert min(taken, tree.max_steps) == int(tree.taken[node])


def test_probabilities_are_of_legal_actions_only(case: tuple[Policy, GraphTensors, Walk]) -> None:
    _, graph, found = case
    possible = torch.tensor(graph.tree.legal)
    if graph.tree.n_shares == 1:
        possible[torch.as_tensor(graph.tree.step) == graph.max_steps] = torch.tensor([False, False, False, True])
    probs = found.log_probs.exp()
    torch.testing.assert_close(probs > 0, possible.expand(N, -1, -1))
    torch.testing.assert_close(found.choice, possible.sum(dim=1) > 1)
    torch.testing.assert_close(probs.sum(dim=2), torch.ones(N, len(graph.tree)))
    clean = torch.where(probs > 0, probs * probs.log(), 0.0)
    torch.testing.assert_close(found.entropy, -clean.sum(dim=2), atol=1e-5, rtol=0)
    assert (found.entropy <= np.log(graph.tree.n_actions) + 1e-6).all()


def test_queries_do_not_touch_each_other(case: tuple[Policy, GraphTensors, Walk]) -> None:
    policy, graph, found = case
    with torch.no_grad():
        one = walk(policy, graph, torch.tensor([2, 2, 0]))
    for name in ("log_probs", "entropy", "returns", "visits"):
        torch.testing.assert_close(getattr(one, name), getattr(found, name)[[2, 2, 0]], atol=1e-5, rtol=1e-5)


def test_gradients_flow(decided_policy: PolicyMaker) -> None:
    graph = GraphTensors(toy_graph(n=N), RewardRules("qrels"))
    policy = decided_policy(graph)
    seen = walk(policy, graph, torch.arange(N))
    (seen.returns.mean() + seen.entropy.mean() + seen.visits[:, -1].mean()).backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters() if p.grad is not None)
    for layer in (policy.action_head, policy.feature_layer):
        assert layer.weight.grad is not None
        assert layer.weight.grad.abs().max() > 0


@pytest.mark.parametrize("auto_search", [False, True])
@pytest.mark.parametrize("max_steps", range(2, 8))
def test_the_states_of_a_level_lie_in_their_parents_order_with_equally_many_children(
    max_steps: int, auto_search: bool
) -> None:
    """``walk`` counts on it."""
    tree = build_tree(max_steps, auto_search)
    assert (np.diff(tree.step) >= 0).all()
    for step in range(max_steps):
        here, below = np.flatnonzero(tree.step == step), np.flatnonzero(tree.step == step + 1)
        parents = [tree.states[node].parent for node in below]
        assert parents == np.repeat(here, len(below) // len(here)).tolist()
