from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from searchrl.retrieval.ranking import NO_DOCUMENT, TopK

FEW_VALUES = st.sampled_from([-np.inf, -1, 0, 1, 2])
"""Ties everywhere, and scores that may not be returned."""


def brute_force(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort everything; a stable sort keeps equal scores in the corpus's order."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(scores, order, axis=1)
    short = ((0, 0), (0, k - order.shape[1]))
    documents = np.where(np.isneginf(values), NO_DOCUMENT, order)
    return np.pad(documents, short, constant_values=NO_DOCUMENT), np.pad(values, short, constant_values=-np.inf)


@given(
    arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=FEW_VALUES),
    st.integers(1, 12),
    st.integers(1, 40),
    st.integers(1, 4),
)
def test_blocks_of_any_shape_give_brute_force(scores, k, width, height):
    best = TopK(len(scores), k)
    for first in range(0, scores.shape[1], width):
        for start in range(0, len(scores), height):
            rows = slice(start, min(start + height, len(scores)))
            best.add(rows, scores[rows, first : first + width], first)
    documents, values = brute_force(scores, k)
    np.testing.assert_array_equal(best.documents, documents)
    np.testing.assert_array_equal(best.scores, values)


@pytest.mark.parametrize("order", ["as drawn", "ascending", "descending"])
def test_long_rows_give_brute_force(order: str) -> None:
    """Rows that are partitioned first, whatever order the good documents come in; a tenth of the scores are ties."""
    scores = np.round(np.random.default_rng(7).normal(size=(3, 5_000)), 3).astype(np.float32)
    scores = {"as drawn": scores, "ascending": np.sort(scores), "descending": -np.sort(-scores)}[order]
    best = TopK(3, 20)
    for first in range(0, 5_000, 600):
        best.add(slice(0, 3), scores[:, first : first + 600], first)
    documents, values = brute_force(scores, 20)
    np.testing.assert_array_equal(best.documents, documents)
    np.testing.assert_array_equal(best.scores, values)


def test_rows_of_equal_scores_cost_no_more_memory_than_others() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(16, 20_000)).astype(np.float32)
    peaks = {}
    for name, scores in {"drawn": drawn, "equal": np.zeros_like(drawn)}.items():
        tracemalloc.start()
        TopK(16, 10).add(slice(0, 16), scores)
        peaks[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks["equal"] < 1.5 * peaks["drawn"]
