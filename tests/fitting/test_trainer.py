from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from searchrl.fitting.trainer import training_order


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(1, 9), st.integers(1, 3), st.integers(0, 9))
def test_every_epoch_has_every_list_once(lengths, size, epochs, seed):
    order = training_order(lengths, size, epochs, seed)
    assert order == training_order(lengths, size, epochs, seed)
    a_epoch = len(order) // epochs
    for epoch in range(epochs):
        met = [place for batch in order[epoch * a_epoch : (epoch + 1) * a_epoch] for place in batch]
        assert sorted(met) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in order)


def test_batches_are_of_a_length_and_epochs_differ():
    lengths = [i % 97 + 1 for i in range(800)]
    order = training_order(lengths, 8, 2, 0)
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in order]
    assert max(spread) <= 12, "of 97, where a chunk holds 400"
    assert order[:100] != order[100:]
    assert order[:100] != training_order(lengths, 8, 1, 1)


def test_part_of_an_epoch():
    assert len(training_order([1] * 80, 8, 1.5, 0)) == 15
    assert len(training_order([1] * 80, 8, 0.01, 0)) == 1
