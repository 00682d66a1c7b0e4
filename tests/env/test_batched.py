from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from searchrl.env.graph import BatchedSearchEnv, GraphTensors, RewardRules, SearchGraph
from searchrl.env.tree import N_ACTIONS, ROOT, Action
from searchrl.errors import ConfigError
from tests.toy import toy_graph

PENALTY = 0.01
GRAPH = toy_graph(n=6)
MASKED = GraphTensors(GRAPH, RewardRules("qrels", PENALTY))
UNMASKED = GraphTensors(GRAPH, RewardRules("qrels", PENALTY, empty_penalty=0.7), use_mask=False)
ACTIONS = st.lists(st.integers(0, N_ACTIONS - 1), min_size=5, max_size=5)
SEARCH, NARROW, BROADEN, TERMINATE = (int(a) for a in Action)


def play(graph: GraphTensors, row: int, actions: list[int]) -> tuple[list[float], int, int]:
    """Rewards of one episode, the steps it took and the state it ended in."""
    env = BatchedSearchEnv(graph)
    env.reset(torch.tensor([row]))
    rewards, steps = [], 0
    for action in actions:
        running = not bool(env.done[0])
        _, reward, _ = env.step(torch.tensor([action]))
        rewards.append(float(reward[0]))
        steps += running
    return rewards, steps, int(env.nodes[0])


@given(st.lists(ACTIONS, min_size=6, max_size=6))
def test_done_episodes_earn_nothing_and_stay(actions):
    env = BatchedSearchEnv(UNMASKED)
    env.reset(torch.arange(6))
    for column in torch.tensor(actions).T:
        before, nodes = env.done.clone(), env.nodes.clone()
        _, reward, done = env.step(column)
        assert not reward[before].any()
        torch.testing.assert_close(env.nodes[before], nodes[before])
        assert (done | ~before).all(), "over is over"
        assert (done[column == TERMINATE]).all()
    assert bool(env.done.all()), "five steps are all there are"


@given(row=st.integers(0, 5), actions=ACTIONS)
def test_rewards_add_up_to_the_end_gain_minus_penalties(row, actions):
    rewards, steps, node = play(UNMASKED, row, actions)
    end = float(GRAPH.state_gains("qrels")[row, node]) if GRAPH.tree.searches[node] else -0.7
    assert sum(rewards) == pytest.approx(end - PENALTY * steps, abs=1e-6)
    assert steps == (actions.index(TERMINATE) + 1 if TERMINATE in actions else 5)


@given(row=st.integers(0, 5), actions=ACTIONS)
def test_episodes_side_by_side_are_episodes_alone(row, actions):
    env = BatchedSearchEnv(UNMASKED)
    env.reset(torch.tensor([row, (row + 1) % 6]))
    paid = [float(env.step(torch.tensor([action, TERMINATE]))[1][0]) for action in actions]
    assert paid == pytest.approx(play(UNMASKED, row, actions)[0], abs=1e-7)


def test_illegal_actions_change_nothing() -> None:
    assert play(UNMASKED, 0, [NARROW, BROADEN])[2] == ROOT
    once = play(UNMASKED, 0, [SEARCH])[2]
    assert play(UNMASKED, 0, [SEARCH, SEARCH])[2] == once
    narrowed = play(UNMASKED, 0, [SEARCH, NARROW])[2]
    assert play(UNMASKED, 0, [SEARCH, NARROW, BROADEN])[2] == narrowed


def test_ending_empty_handed_is_penalised() -> None:
    assert play(UNMASKED, 0, [TERMINATE])[0] == pytest.approx([-0.7 - PENALTY])
    assert sum(play(UNMASKED, 0, [NARROW] * 5)[0]) == pytest.approx(-0.7 - 5 * PENALTY)


def test_truncation_pays_what_was_found_even_when_the_newest_query_is_unsearched() -> None:
    rewards, steps, _ = play(UNMASKED, 0, [SEARCH, SEARCH, SEARCH, SEARCH, NARROW])
    assert steps == 5
    assert sum(rewards) == pytest.approx(float(GRAPH.gains["qrels"][0, 0]) - 5 * PENALTY, abs=1e-6)


def test_single_pass_baseline_pays_the_difference() -> None:
    rules = RewardRules("qrels", PENALTY, "single_pass", empty_penalty=0.7)
    against = GraphTensors(GRAPH, rules, use_mask=False)
    gains = GRAPH.gains["qrels"]
    for row in range(6):
        assert sum(play(against, row, [SEARCH, TERMINATE])[0]) == pytest.approx(-2 * PENALTY)
        narrowed = sum(play(against, row, [SEARCH, NARROW, SEARCH, TERMINATE])[0])
        assert narrowed == pytest.approx(float(gains[row, 1] - gains[row, 0]) - 4 * PENALTY, abs=1e-6)
        assert sum(play(against, row, [TERMINATE])[0]) == pytest.approx(-0.7 - PENALTY)
    np.testing.assert_array_equal(GRAPH.gains["qrels"], gains)


def shows(graph: SearchGraph, seen, row: int, node: int) -> bool:
    slot = graph.tree.search_slot[node]
    expected = {
        "query": graph.query_vectors[row, graph.tree.query_slot[node]],
        "result": graph.result_vectors[row, slot] if slot >= 0 else np.zeros(graph.dim),
        "features": graph.features[row, node],
    }
    return all(np.array_equal(getattr(seen, name)[0].numpy(), expected[name]) for name in expected)


@pytest.mark.parametrize("actions", [[], [SEARCH], [SEARCH, NARROW], [SEARCH, BROADEN, SEARCH, NARROW, SEARCH]])
def test_observations_are_the_graphs(actions: list[int]) -> None:
    env = BatchedSearchEnv(MASKED)
    seen = env.reset(torch.tensor([4]))
    nodes = [ROOT]
    for action in actions:
        seen, _, _ = env.step(torch.tensor([action]))
        nodes.append(int(env.nodes[0]))
    assert shows(GRAPH, seen, 4, nodes[-1])
    assert seen.mask[0].tolist() == GRAPH.tree.legal[nodes[-1]].tolist()
    assert all(GRAPH.tree.states[b].parent == a for a, b in pairwise(nodes))


def test_without_mask_all_is_allowed_and_time_still_passes() -> None:
    env = BatchedSearchEnv(UNMASKED)
    env.reset(torch.tensor([0]))
    step = GRAPH.feature_names.index("step")
    before = UNMASKED.features.clone()
    for count in (1, 2, 3):
        seen, _, _ = env.step(torch.tensor([NARROW]))
        assert bool(seen.mask.all())
        assert float(seen.features[0, step]) == pytest.approx(count / 5)
    torch.testing.assert_close(UNMASKED.features, before)


def test_gains_that_are_not_there_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no 'reward' gains.*Valid: qrels"):
        GraphTensors(GRAPH, RewardRules("reward"))
