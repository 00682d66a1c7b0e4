from __future__ import annotations

import numpy as np
import pytest
import torch

from searchrl.agent.strategies import (
    HEURISTIC,
    best_fixed,
    describe,
    follow,
    heuristic,
    oracle,
    random_actions,
    returns,
    single_pass,
)
from searchrl.env.graph import BatchedSearchEnv, GraphTensors, RewardRules, SearchGraph
from searchrl.env.tree import ROOT, Action, build_tree
from tests.toy import toy_graph

PENALTY = 0.02
S, N, B, T = Action.SEARCH, Action.NARROW, Action.BROADEN, Action.TERMINATE


@pytest.fixture(scope="module", params=[5, 4, 3])
def graph(request: pytest.FixtureRequest) -> SearchGraph:
    made = toy_graph(n=40, max_steps=request.param)
    gains = np.random.default_rng(1).random(made.gains["qrels"].shape).astype(np.float32)
    made.gains["qrels"][:] = gains  # type: ignore[index]
    return made


def played(graph: SearchGraph, node: int) -> np.ndarray:
    """What the episodes that go to a state and stop there earn, (n,)."""
    tensors = GraphTensors(graph, RewardRules("qrels", PENALTY))
    env = BatchedSearchEnv(tensors)
    rows = torch.arange(len(graph))
    env.reset(rows)
    total = torch.zeros(len(graph))
    for action in [*graph.tree.actions_to(node), Action.TERMINATE]:
        total += env.step(torch.full_like(rows, int(action)))[1]
    assert bool(env.done.all())
    return total.numpy()


def test_returns_are_what_the_episodes_earn(graph: SearchGraph) -> None:
    paid = returns(graph, RewardRules("qrels", PENALTY))
    assert paid.shape == (len(graph), len(graph.tree.searched_nodes))
    for slot, node in enumerate(graph.tree.searched_nodes.tolist()):
        np.testing.assert_allclose(paid[:, slot], played(graph, node), atol=1e-6)


def test_the_oracle_is_at_least_as_good_as_every_sequence(graph: SearchGraph) -> None:
    best = oracle(graph, RewardRules("qrels", PENALTY))
    earned = np.array([played(graph, int(node))[row] for row, node in enumerate(best)])
    everything = np.stack([played(graph, int(node)) for node in range(len(graph.tree)) if graph.tree.searched[node]])
    np.testing.assert_allclose(earned, everything.max(axis=0), atol=1e-6)


def test_best_fixed_pays_best_on_average(graph: SearchGraph) -> None:
    chosen = best_fixed(graph, RewardRules("qrels", PENALTY))
    means = {int(node): played(graph, int(node)).mean() for node in graph.tree.searched_nodes}
    assert means[chosen] == pytest.approx(max(means.values()))


def test_ties_go_to_the_shorter_episode() -> None:
    graph = toy_graph(n=5)
    graph.gains["qrels"][:] = 0.5  # type: ignore[index]
    first = graph.tree.searched_nodes[0]
    assert oracle(graph, RewardRules("qrels", 0.0)).tolist() == [first] * 5
    assert best_fixed(graph, RewardRules("qrels", 0.0)) == first


def test_single_pass_and_heuristic_end_where_their_actions_lead() -> None:
    graph = toy_graph(n=3)
    tree = graph.tree
    assert {tuple(tree.actions_to(int(node))) for node in single_pass(graph)} == {(S,)}
    assert {tuple(tree.actions_to(int(node))) for node in heuristic(graph)} == {HEURISTIC}
    assert single_pass(graph).shape == heuristic(graph).shape == (3,)


def test_follow_passes_over_what_is_illegal() -> None:
    tree = build_tree(5)
    assert follow(tree, ()) == ROOT
    assert follow(tree, (N, B)) == ROOT
    assert tree.actions_to(follow(tree, (B, S, S, N, N, S))) == [S, N, S]
    searching = build_tree(4, auto_search=True)
    assert searching.actions_to(follow(searching, HEURISTIC)) == [S, N, B], "reformulating has searched already"
    assert build_tree(2).actions_to(follow(build_tree(2), HEURISTIC)) == [S, N], "no step is left"


def test_describe_names_the_actions() -> None:
    tree = build_tree(5)
    assert describe(tree, follow(tree, (S, B, S))) == "SEARCH BROADEN SEARCH"


def test_random_actions_are_uniform_over_the_legal_ones() -> None:
    graph = toy_graph(n=30_000)
    tree = graph.tree
    ends = random_actions(graph, np.random.default_rng(0))
    share = np.bincount(ends, minlength=len(tree)) / len(graph)
    chance = np.zeros(len(tree))  # of coming by
    chance[ROOT] = 1.0
    expected = np.zeros(len(tree))  # of ending there
    for node in range(len(tree)):
        legal = tree.legal[node].sum()
        for child in tree.children[node][tree.children[node] >= 0]:
            chance[child] = chance[node] / legal
        last = tree.step[node] == tree.max_steps
        expected[node] = chance[node] * (1.0 if last else tree.legal[node, T] / legal)
    np.testing.assert_allclose(share, expected, atol=0.01)
    assert expected.sum() == pytest.approx(1.0)


def test_random_actions_repeat_with_their_generator() -> None:
    graph = toy_graph(n=50)
    first, again, other = (random_actions(graph, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
