from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from searchrl.retrieval.fusion import RRF_K, fuse, list_scores, minmax, minmax_rows
from searchrl.retrieval.ranking import NO_DOCUMENT, Ranking
from tests.tiny import ranking_of

METHODS = ("rrf", "minmax")
DEPTH, DOCUMENTS = 8, 8


@st.composite
def one_list(draw) -> list[tuple[int, float]]:
    """A ranking of up to DEPTH documents, scores not increasing, some equal."""
    documents = draw(st.lists(st.integers(0, DOCUMENTS - 1), max_size=DEPTH, unique=True))
    scores = draw(st.lists(st.integers(-8, 8), min_size=len(documents), max_size=len(documents)))
    return [(d, s / 4) for d, s in zip(documents, sorted(scores, reverse=True), strict=True)]


SEARCHES = st.lists(one_list(), min_size=2, max_size=4)  # of one query
ANCHORS = st.integers(0, 10).map(lambda tenths: tenths / 10)


def fused(searches: list[list[tuple[int, float]]], method: str, anchor: float) -> Ranking:
    return fuse([ranking_of(s, depth=DEPTH) for s in searches], method, anchor)  # type: ignore[arg-type]


def as_scores(ranking: Ranking, row: int = 0) -> dict[int, float]:
    pairs = zip(ranking.documents[row].tolist(), ranking.scores[row].tolist(), strict=True)
    return {d: s for d, s in pairs if d != NO_DOCUMENT}


def plain_fusion(searches: list[list[tuple[int, float]]], method: str, anchor: float) -> dict[int, float]:
    """A document and a list at a time."""
    total: dict[int, float] = {}
    for i, pairs in enumerate(searches):
        weight = anchor if i == 0 else (1 - anchor) / (len(searches) - 1)
        values = [s for _, s in pairs]
        for rank, (document, score) in enumerate(pairs, start=1):
            if method == "rrf":
                worth = (RRF_K + 1) / (RRF_K + rank)
            else:
                spread = max(values) - min(values)
                worth = (score - min(values)) / spread if spread else 1.0
            total[document] = total.get(document, 0.0) + weight * worth
    return total


@pytest.mark.parametrize("method", METHODS)
@given(searches=SEARCHES, anchor=ANCHORS)
def test_fusion_is_the_plain_one(method, searches, anchor):
    assert as_scores(fused(searches, method, anchor)) == pytest.approx(plain_fusion(searches, method, anchor), abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
@given(searches=SEARCHES, anchor=ANCHORS)
def test_a_fused_ranking_is_a_ranking(method, searches, anchor):
    ranking = fused(searches, method, anchor)
    documents, scores = ranking.documents[0], ranking.scores[0]
    present = documents != NO_DOCUMENT
    assert np.issubdtype(documents.dtype, np.integer)
    assert scores.dtype == np.float32
    assert len(set(documents[present].tolist())) == present.sum()
    assert (np.diff(present.astype(int)) <= 0).all(), "no gap before the end"
    assert np.isneginf(scores[~present]).all()
    assert ((scores[present] >= 0) & (scores[present] <= 1 + 1e-6)).all()
    assert (np.diff(scores[present]) <= 0).all()


@given(searches=SEARCHES)
def test_anchor_one_keeps_the_first_ranking_by_ranks(searches):
    first = [d for d, _ in searches[0]]
    assert fused(searches, "rrf", 1.0).documents[0].tolist()[: len(first)] == first


@given(searches=SEARCHES)
def test_anchor_one_keeps_the_first_ranking_by_scores(searches):
    """Down to its lowest score, which min-max scaling makes 0, as it makes what only the other lists have."""
    first = [(d, -i) for i, (d, _) in enumerate(searches[0])]
    kept = [d for d, _ in first[:-1]]
    assert fused([first, *searches[1:]], "minmax", 1.0).documents[0].tolist()[: len(kept)] == kept


@pytest.mark.parametrize("method", METHODS)
@given(searches=SEARCHES, anchor=ANCHORS, data=st.data())
def test_the_order_of_the_later_searches_does_not_matter(method, searches, anchor, data):
    other = [searches[0], *data.draw(st.permutations(searches[1:]))]
    expected = as_scores(fused(searches, method, anchor))
    assert as_scores(fused(other, method, anchor)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
@given(batch=st.lists(st.tuples(one_list(), one_list(), one_list()), min_size=1, max_size=4), anchor=ANCHORS)
def test_queries_of_a_batch_do_not_touch_each_other(method, batch, anchor):
    together = fuse([ranking_of(*lists, depth=DEPTH) for lists in zip(*batch, strict=True)], method, anchor)
    for row, searches in enumerate(batch):
        alone = fused(list(searches), method, anchor)
        np.testing.assert_array_equal(together.row(row).documents, alone.documents)
        np.testing.assert_array_equal(together.row(row).scores, alone.scores)


@pytest.mark.parametrize("method", METHODS)
def test_ties_go_to_the_document_that_stands_earlier_in_the_corpus(method: str) -> None:
    ranking = fused([[(5, 1.0)], [(2, 1.0)]], method, 0.5)
    assert ranking.documents[0, :3].tolist() == [2, 5, NO_DOCUMENT]


def test_a_union_longer_than_the_depth_is_cut() -> None:
    first, second = ranking_of([(0, 2.0), (1, 1.0)]), ranking_of([(2, 2.0), (3, 1.0)])
    ranking = fuse([first, second], "rrf", 0.6)
    assert ranking.documents.tolist() == [[0, 1]]


@pytest.mark.parametrize("method", [*METHODS, "last"])
def test_one_ranking_comes_back_as_it_is(method: str) -> None:
    only = ranking_of([(3, 0.7), (1, -2.0)], depth=4)
    assert fuse([only], method, 0.3) is only  # type: ignore[arg-type]


@given(searches=SEARCHES)
def test_last_is_the_newest_alone(searches):
    newest = ranking_of(searches[-1], depth=DEPTH)
    ranking = fuse([*(ranking_of(s, depth=DEPTH) for s in searches[:-1]), newest], "last", 0.9)
    assert ranking is newest


def test_rrf_gives_the_first_place_all_of_a_lists_weight() -> None:
    assert list_scores(ranking_of([(4, 0.1), (2, 0.1)], depth=3), "rrf")[0].tolist() == pytest.approx([1, 61 / 62, 0])


def test_minmax_of_equal_absent_and_no_scores() -> None:
    scores = np.array([[2.0, 2.0, -np.inf], [-np.inf] * 3, [5.0, 3.0, 4.0]], dtype=np.float32)
    assert minmax(scores, np.isfinite(scores)).tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 0.5]]
    assert minmax(scores[:, :0], np.isfinite(scores[:, :0])).shape == (3, 0)


@given(
    arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.integers(-4, 4)),
    st.data(),
)
def test_minmax_in_place_is_minmax_of_all_but_the_own_cells(scores, data):
    n, width = scores.shape
    exclude = np.array(data.draw(st.lists(st.integers(-1, width - 1), min_size=n, max_size=n)))
    rows = np.flatnonzero(exclude >= 0)
    present = np.ones(scores.shape, dtype=bool)
    present[rows, exclude[rows]] = False
    expected = minmax(scores, present)
    scaled = scores.copy()
    assert minmax_rows(scaled, (rows, exclude[rows])) is scaled
    np.testing.assert_array_equal(scaled[present], expected[present])
    assert np.isfinite(scaled).all()
