import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from searchrl.errors import ConfigError
from searchrl.models.tokens import pad, padded, scrub, token_batches


@given(st.lists(st.integers(0, 300)), st.integers(1, 1000), st.sampled_from([1, 8, 64]))
def test_every_row_once_and_no_batch_over_the_budget(lengths, budget, multiple):
    batches = token_batches(lengths, budget, multiple)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        width = padded(max(lengths[i] for i in batch), multiple)
        assert width % multiple == 0
        assert len(batch) == 1 or len(batch) * width <= budget


def test_an_impossible_budget_is_refused():
    with pytest.raises(ConfigError, match="0"):
        token_batches([1], 0)


def test_padding_on_either_side():
    left, mask = pad([[1, 2, 3], [4]], 9, "left")
    right, _ = pad([[1, 2, 3], [4]], 9, "right", 4)
    assert left.tolist() == [[1, 2, 3], [9, 9, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert right.tolist() == [[1, 2, 3, 9], [4, 9, 9, 9]]
    assert left.dtype == mask.dtype == torch.int64


def test_lone_surrogates_are_replaced_and_nothing_else():
    assert scrub("a\ud800b é 中 😀") == "a?b é 中 😀"
