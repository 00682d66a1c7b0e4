from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from searchrl.models.language_model import FloatArray
from searchrl.reward.reward_model import JudgedPool
from tests.tiny import corpus_of

CORPUS = corpus_of("zero", "one", "two", "three", "four")
QUERIES = ["a", "b", "c"]
ROWS = st.lists(st.lists(st.integers(-1, 4), min_size=2, max_size=2), min_size=3, max_size=3)


class Judge:
    """Remembers every pair it was asked; scores tell query and document apart."""

    fingerprint = "judge"
    absolute = False

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.batches = 0

    def score(self, queries: list[str], documents: list[str]) -> FloatArray:
        self.asked += list(zip(queries, documents, strict=True))
        self.batches += 1
        return np.array([self.of(q, d) for q, d in zip(queries, documents, strict=True)], dtype=np.float32)

    @staticmethod
    def of(query: str, document: str) -> float:
        return 10.0 * QUERIES.index(query) + CORPUS.texts.index(document)


@given(st.lists(ROWS, max_size=4))
def test_every_pair_is_asked_for_once_and_found_again(calls):
    judge = Judge()
    pool = JudgedPool(judge, CORPUS, QUERIES)
    known: list[set[int]] = [set(), set(), set()]
    for rows in calls:
        new = [set(row) - {-1} - known[i] for i, row in enumerate(rows)]
        batches, asked = judge.batches, len(judge.asked)
        pool.ensure(np.array(rows, np.int32))
        assert len(judge.asked) - asked == sum(map(len, new))
        assert judge.batches == batches + any(new), "one batch for all queries, none when all is known"
        known = [k | n for k, n in zip(known, new, strict=True)]
    assert len(judge.asked) == len(set(judge.asked)) == sum(map(len, known))
    everything = np.tile(np.arange(-1, 5, dtype=np.int32), (3, 1))
    found = pool.lookup(everything)
    assert found.dtype == np.float32
    for row in range(3):
        for column, document in enumerate(everything[row]):
            if int(document) in known[row]:
                assert found[row, column] == Judge.of(QUERIES[row], CORPUS.texts[document])
            else:
                assert np.isnan(found[row, column])


@given(st.lists(ROWS, max_size=3))
def test_pools_hold_every_scored_document_of_each_query(calls):
    pool = JudgedPool(Judge(), CORPUS, QUERIES)
    for rows in calls:
        pool.ensure(np.array(rows, np.int32))
    pool, scores = pool.arrays()
    assert pool.shape == scores.shape
    assert (np.isnan(scores) == (pool == -1)).all()
    for row in range(3):
        known = {d for rows in calls for d in rows[row]} - {-1}
        present = pool[row] >= 0
        assert sorted(pool[row][present].tolist()) == sorted(known)
        expected = [Judge.of(QUERIES[row], CORPUS.texts[d]) for d in pool[row][present]]
        assert scores[row][present].tolist() == expected
        assert not present[len(known) :].any(), "padding comes last"
    assert pool.shape[1] == max(1, *(int((pool[row] >= 0).sum()) for row in range(3)))


def test_an_empty_pool_knows_nothing() -> None:
    pool = JudgedPool(Judge(), CORPUS, QUERIES)
    assert np.isnan(pool.lookup(np.array([[0, 1], [2, -1], [4, 4]], np.int32))).all()
    pool, scores = pool.arrays()
    assert pool.tolist() == [[-1]] * 3
    assert np.isnan(scores).all()


def test_documents_are_judged_by_their_full_text() -> None:
    from searchrl.data.dataset import Corpus

    seen: list[str] = []

    class Reader(Judge):
        def score(self, queries: list[str], documents: list[str]) -> FloatArray:
            seen.extend(documents)
            return np.zeros(len(documents), np.float32)

    JudgedPool(Reader(), Corpus(["d"], ["Title"], ["text"]), ["a"]).ensure(np.array([[0]], np.int32))
    assert seen == ["Title text"]


@given(
    st.lists(st.lists(st.integers(-1, 4), min_size=4, max_size=4), min_size=3, max_size=3),
    st.integers(1, 15),
)
def test_batches_hold_every_pair_once_and_never_split_a_document(rows, size):
    judge = Judge()
    pool, whole = JudgedPool(judge, CORPUS, QUERIES), JudgedPool(Judge(), CORPUS, QUERIES)
    documents = np.array(rows, np.int32)
    batches = pool.batches(documents, size)
    for batch in batches:
        pool.learn(batch, pool.score(batch))
    whole.ensure(documents)
    np.testing.assert_array_equal(pool.arrays()[0], whole.arrays()[0])
    np.testing.assert_array_equal(pool.arrays()[1], whole.arrays()[1])
    assert len(judge.asked) == len(set(judge.asked))
    assert judge.batches == len(batches)
    owners = [set((batch % len(CORPUS)).tolist()) for batch in batches]
    assert sum(map(len, owners)) == len(set().union(*owners)), "a document stands in one batch"
    assert all(len(batch) < size + len(QUERIES) for batch in batches)
    assert all(len(batch) > 0 for batch in batches)
    if len(judge.asked) <= size:
        assert len(batches) <= 1


def test_a_document_that_many_queries_met_is_read_once() -> None:
    read: list[int] = []

    class Reading(type(CORPUS)):
        def full_text(self, index: int) -> str:
            read.append(index)
            return super().full_text(index)

    corpus = Reading(CORPUS.ids, CORPUS.titles, CORPUS.texts)
    JudgedPool(Judge(), corpus, QUERIES).ensure(np.array([[1, 2], [2, 1], [2, 3]], np.int32))
    assert sorted(read) == [1, 2, 3]
