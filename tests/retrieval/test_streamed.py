"""BM25 of a stream is BM25 of a corpus in memory, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.data.dataset import Corpus, Dataset
from searchrl.retrieval.analysis import Analyser
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.streamed import count_terms
from tests.tiny import corpus_of

WORDS = st.lists(st.sampled_from("whale whales shark vitamin C a A 7 the 日本 sorting".split()), max_size=8)


def check(corpus: Corpus) -> None:
    analyser, whole = Analyser(), LexicalIndex(corpus)
    statistics = count_terms(analyser, corpus.full_texts())
    assert statistics.vocabulary == whole.vocabulary
    np.testing.assert_array_equal(statistics.idf, whole.idf)
    half = len(corpus) // 2
    for part in (range(half), range(half, len(corpus))):
        rows = statistics.weights(analyser, [corpus.full_text(i) for i in part])
        expected = whole.terms(np.array(part, dtype=np.int32))
        np.testing.assert_array_equal(rows.indptr, expected.indptr)
        np.testing.assert_array_equal(rows.indices, expected.indices)
        np.testing.assert_array_equal(rows.data, expected.data)


@given(st.lists(WORDS, min_size=1, max_size=6))
def test_any_texts(texts: list[list[str]]) -> None:
    check(corpus_of(*(" ".join(words) for words in texts)))


def test_a_real_collection(small_dataset: Dataset) -> None:
    check(small_dataset.corpus)


@pytest.mark.parametrize("texts", [[""], ["", "the of and"], ["A B"]])
def test_texts_without_words(texts: list[str]) -> None:
    check(corpus_of(*texts))
