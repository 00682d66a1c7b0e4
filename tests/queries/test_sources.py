from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from searchrl.data.dataset import Corpus
from searchrl.errors import DataError
from searchrl.queries.writing import SAME, sources, without_keywords
from searchrl.retrieval.lexical import LexicalIndex
from tests.tiny import corpus_of, retriever_of

MANY = corpus_of(*(f"the document number {i} speaks of {i}" for i in range(30)), "too short", "")


def singles(corpus: Corpus, seed: int) -> list[tuple[int, ...]]:
    return list(sources("single", corpus, retriever_of(corpus).index, seed))


def test_every_document_with_words_enough_comes_once_in_an_order_of_the_seed() -> None:
    order = singles(MANY, 1)
    assert sorted(order) == [(i,) for i in range(30)]
    assert singles(MANY, 1) == order
    assert singles(MANY, 2) != order
    assert list(sources("adversarial", MANY, retriever_of(MANY).index, 1)) != order


@pytest.mark.parametrize("kind", ["single", "multi", "adversarial"])
def test_a_corpus_without_words_is_refused(kind: str) -> None:
    corpus = corpus_of("too short", "", "no")
    with pytest.raises(DataError, match="no document has 5 words or more"):
        sources(kind, corpus, retriever_of(corpus).index, 1)  # type: ignore[arg-type]


def test_a_pair_is_a_document_and_its_nearest_neighbour() -> None:
    texts = [f"{topic} {topic} {topic} in the year {i}" for topic in ("whale", "shark", "squid") for i in range(4)]
    corpus = corpus_of(*texts, "too short")
    index = retriever_of(corpus).index
    pairs = list(sources("multi", corpus, index, 1))
    assert pairs
    for first, second in pairs:
        assert first // 4 == second // 4, "of the same topic"
    assert len({frozenset(pair) for pair in pairs}) == len(pairs), "no pair comes twice"
    assert all(index.dense.vectors[a] @ index.dense.vectors[b] < SAME for a, b in pairs)
    assert list(islice(sources("multi", corpus, index, 1), 2)) == pairs[:2]


def test_copies_are_no_pair() -> None:
    same = "whales sing in the sea"
    corpus = corpus_of(same, same, "sharks do not sing in the sea")
    pairs = list(sources("multi", corpus, retriever_of(corpus).index, 1))
    assert frozenset((0, 1)) not in {frozenset(pair) for pair in pairs}
    assert pairs


def test_the_keywords_of_a_document_are_hidden_in_every_form() -> None:
    corpus = corpus_of(
        "Resetting a session: session.reset(mail) resets the current mail, and the sender is forgotten.",
        "The sender of current events is not forgotten, whatever the letters say.",
        "Other letters and other events.",
    )
    hidden = without_keywords(0, corpus.full_text(0), LexicalIndex(corpus))
    for word in ("reset", "session", "mail"):
        assert word not in hidden.lower()
    assert "the" in hidden.split()
    assert hidden == " ".join(hidden.split())


def test_hiding_reads_only_the_part_that_is_shown() -> None:
    corpus = corpus_of("alpha beta gamma delta epsilon zeta", "alpha")
    assert without_keywords(0, "a b", LexicalIndex(corpus)) == "a b"
    assert without_keywords(0, "", LexicalIndex(corpus)) == ""
    assert np.array_equal(sorted(without_keywords(0, "alpha beta", LexicalIndex(corpus)).split()), ["alpha"])
