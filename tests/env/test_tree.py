from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.env.tree import ROOT, Action, build_tree


def test_five_steps_reach_seven_searched_states() -> None:
    tree = build_tree(5)
    assert int(tree.searched.sum()) == 7
    assert len(tree) == 14


def test_auto_search_searches_with_every_reformulation() -> None:
    tree = build_tree(4, auto_search=True)
    assert int(tree.searched.sum()) == 1 + 2 + 4 + 8
    assert not tree.searched[ROOT]
    assert (tree.searches[1:] == tree.reformulations[1:] + 1).all()


@pytest.mark.parametrize("auto_search", [False, True])
@given(steps=st.integers(2, 7))
def test_every_legal_action_leads_on_until_the_last_step(auto_search: bool, steps: int) -> None:
    tree = build_tree(steps, auto_search)
    going = tree.step < steps
    for action in (Action.SEARCH, Action.NARROW, Action.BROADEN):
        leads = tree.children[:, action] >= 0
        np.testing.assert_array_equal(leads, tree.legal[:, action] & going)
    assert (tree.legal.sum(axis=1) >= 1).all()
    assert not (tree.legal[:, Action.TERMINATE] & (tree.searches == 0)).any()


@given(steps=st.integers(2, 7))
def test_slots_count_searches_and_queries_once(steps: int) -> None:
    tree = build_tree(steps)
    assert tree.search_slot[tree.searched_nodes].tolist() == list(range(len(tree.searched_nodes)))
    for node, state in enumerate(tree.states):
        if state.action == Action.SEARCH:
            assert tree.query_slot[node] == tree.query_slot[state.parent]
        elif state.action is not None:
            assert tree.search_slot[node] == tree.search_slot[state.parent]
    assert len(set(tree.query_slot.tolist())) == int(tree.query_slot.max()) + 1


@pytest.mark.parametrize("auto_search", [False, True])
@given(steps=st.integers(2, 6), n_shares=st.integers(2, 4))
def test_an_argument_of_terminate_leads_to_an_end_of_its_own(auto_search: bool, steps: int, n_shares: int) -> None:
    plain, tree = build_tree(steps, auto_search), build_tree(steps, auto_search, n_shares)
    assert tree.states[: tree.open_states] == plain.states, "states are what they were"
    assert len(tree.ends) == n_shares * len(plain.searched_nodes)
    assert tree.end_slot[tree.ends].tolist() == list(range(len(tree.ends)))
    for node in range(tree.open_states):
        following = tree.children[node, Action.TERMINATE :]
        assert (following >= 0).all() == (tree.searched[node] or tree.step[node] == steps)
        for weight, end in enumerate(following[following >= 0].tolist()):
            assert (tree.over[end], tree.share[end], tree.state[end]) == (True, weight, node)
            assert tree.taken[end] == plain.taken[node]
    assert (tree.legal[tree.over].sum(axis=1) == 1).all(), "something can be asked, and changes nothing"
    assert (tree.children[tree.over] < 0).all()


@pytest.mark.parametrize("n_shares", [1, 3])
def test_actions_to_a_state_lead_there(n_shares: int) -> None:
    tree = build_tree(5, n_shares=n_shares)
    for node in range(len(tree)):
        at = ROOT
        for action in tree.actions_to(node):
            assert tree.legal[at, action]
            at = int(tree.children[at, action])
        assert at == node
