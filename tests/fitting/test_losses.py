from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from searchrl.fitting.lists import list_losses, listwise_loss, loss_across, pairwise_loss

SCORES = st.lists(st.floats(-5, 5), min_size=2, max_size=6)


def tensors(scores, levels):
    return torch.tensor(scores, dtype=torch.float64), torch.tensor(levels)


@given(SCORES)
def test_a_full_order_costs_its_plackett_luce_likelihood(scores):
    """Chosen one after another, each among those that are left."""
    expected = 0.0
    for place in range(len(scores) - 1):
        rest = [math.exp(score) for score in scores[place:]]
        expected -= math.log(rest[0] / sum(rest))
    loss = listwise_loss(*tensors(scores, list(range(len(scores), 0, -1))))
    np.testing.assert_allclose(float(loss), expected / (len(scores) - 1), rtol=1e-9, atol=1e-12)


@given(SCORES, st.data())
def test_pairs_cost_their_bradley_terry_likelihood(scores, data):
    levels = data.draw(st.lists(st.integers(0, 2), min_size=len(scores), max_size=len(scores)))
    terms = [
        -math.log(1 / (1 + math.exp(scores[j] - scores[i])))
        for i in range(len(scores))
        for j in range(len(scores))
        if levels[i] > levels[j]
    ]
    if terms:
        loss = pairwise_loss(*tensors(scores, levels))
        np.testing.assert_allclose(float(loss), np.mean(terms), rtol=1e-9, atol=1e-12)


def test_of_two_both_are_the_same():
    scores, levels = tensors([0.3, -1.2], [1, 0])
    torch.testing.assert_close(pairwise_loss(scores, levels), listwise_loss(scores, levels))


def test_one_positive_among_negatives_is_a_softmax():
    scores, levels = tensors([0.3, -1.2, 2.0, 0.1], [1, 0, 0, 0])
    expected = torch.nn.functional.cross_entropy(scores[None], torch.tensor([0]))
    torch.testing.assert_close(listwise_loss(scores, levels), expected)


@given(SCORES)
def test_equals_are_not_set_against_each_other(scores):
    """Two best ones may score as they like against each other."""
    levels = [2, 2, *([0] * (len(scores) - 1))]
    one, level = tensors([scores[0], scores[1], *scores[1:]], levels)
    other, _ = tensors([scores[1], scores[0], *scores[1:]], levels)
    torch.testing.assert_close(listwise_loss(one, level), listwise_loss(other, level))


def test_lists_count_the_same_however_long():
    scores, _ = tensors([1.0, 0.0, 0.5, 0.2, -1.0], [0] * 5)
    levels = [torch.tensor([1, 0]), torch.tensor([2, 1, 0])]
    expected = (pairwise_loss(scores[:2], levels[0]) + pairwise_loss(scores[2:], levels[1])) / 2
    torch.testing.assert_close(list_losses("pairwise", scores, levels), expected)


def test_across_lists_the_best_of_one_meets_the_worst_of_the_others():
    scores, _ = tensors([1.0, 0.0, 0.5, 0.2, -1.0], [0] * 5)
    levels = [torch.tensor([1, 0]), torch.tensor([2, 1, 0])]
    expected = (math.log1p(math.exp(-1.0 - 1.0)) + math.log1p(math.exp(0.0 - 0.5))) / 2
    torch.testing.assert_close(float(loss_across(scores, levels)), expected)
    both = list_losses("listwise", scores, levels, across=True)
    within = list_losses("listwise", scores, levels)
    torch.testing.assert_close(both, (within + expected) / 2)
    assert loss_across(scores[:2], levels[:1]) is None
    torch.testing.assert_close(
        list_losses("pairwise", scores[:2], levels[:1], across=True), pairwise_loss(scores[:2], levels[0])
    )
