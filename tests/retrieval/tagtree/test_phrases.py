from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.errors import DataError
from searchrl.retrieval.tagtree.tagging import (
    MOST_WORDS,
    Phrases,
    best_phrases,
    choose,
    document_phrases,
    normal,
    phrases,
    singular,
)

WORDS = st.sampled_from("the of wing wings delta boundary layers flow mach 5 , . - x cell's über".split())


def test_a_phrase_ends_at_stop_words_and_punctuation() -> None:
    assert phrases("The boundary layers of a wing") == ["boundary", "boundary layer", "layer", "wing"]
    assert phrases("shock-wave, mach 5 flow") == ["shock-wave", "mach", "flow"]
    assert "supersonic delta wing" in phrases("supersonic delta wings flow")
    assert max(phrase.count(" ") for phrase in phrases("one" + " word" * 9)) == MOST_WORDS - 1
    assert phrases("") == phrases("the of 12 . ?") == []


@given(st.lists(WORDS, max_size=12).map(" ".join))
def test_every_phrase_stands_in_its_text(text: str) -> None:
    for phrase in phrases(text):
        *words, _ = phrase.split()
        assert 0 < len(phrase.split()) <= MOST_WORDS
        assert not set(phrase.split()) & {"the", "of", "5", ",", "."}
        assert " ".join(words) in " ".join(text.lower().replace("'s", "").split())
        assert normal(phrase) == phrase


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        *(("studies", "study"), ("boxes", "box"), ("wings", "wing"), ("churches", "church"), ("classes", "class")),
        *(("mass", "mass"), ("analysis", "analysis"), ("nucleus", "nucleus"), ("gas", "gas"), ("dies", "die")),
    ],
)
def test_plurals(plural: str, one: str) -> None:
    assert singular(plural) == one
    assert normal(f' "Delta  {plural.upper()}". ') == f"delta {one}"


def test_normal_of_nothing() -> None:
    assert normal(" .. ") == ""


TEXTS = ["delta wing in flow", "delta wings and heat", "heat of a slab", "slab, slab, slab and heat", "a wing"]


def test_phrases_weigh_what_bm25_gives_them() -> None:
    found = document_phrases(TEXTS, 2, 0.5)
    assert list(found.names) == ["delta", "delta wing", "slab"], "heat and wing are too common, flow is too rare"
    weights = found.weights.toarray()
    assert (weights[[0, 0, 1, 1, 2, 3], [0, 1, 0, 1, 2, 2]] > 0).all()
    assert np.count_nonzero(weights) == 6
    rarity = np.log1p((5 - 2 + 0.5) / 2.5)
    assert weights[0, 0] == pytest.approx(rarity / 2.2)
    assert weights[0, 1] == pytest.approx(rarity / 2.2 * 2**0.5)
    assert weights[3, 2] == pytest.approx(rarity * 3 / 4.2)


def test_no_phrases_is_one_clear_error() -> None:
    with pytest.raises(DataError, match=r"no phrase occurs in 3 to 3 of 5 documents; change min_documents"):
        document_phrases([f"word{i}" for i in range(5)], 3, 0.1)
    with pytest.raises(DataError, match="no phrase occurs"):
        document_phrases(["the", "of"], 1, 1.0)


def sparse_of(rows: list[list[float]]) -> object:
    from scipy import sparse

    return sparse.csr_matrix(np.array(rows, dtype=np.float32))


def test_a_document_chooses_again_when_its_best_is_dropped() -> None:
    weights = sparse_of([[3, 2, 0], [0, 2, 1], [0, 2, 0]])
    chosen = choose(weights, 1, 2)
    assert chosen.toarray().tolist() == [[0, 2, 0], [0, 2, 0], [0, 2, 0]]
    assert best_phrases(Phrases(["a", "b", "c"], weights), 2, 1) == [["a", "b"], ["b", "c"], ["b"]]
    with pytest.raises(DataError, match="no tag is shared by 4 documents"):
        best_phrases(Phrases(["a", "b", "c"], weights), 2, 4)


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1, max_size=12),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_every_tag_is_given_often_enough_and_no_document_has_too_many(
    rows: list[list[float]], per_document: int, least: int
) -> None:
    weights = sparse_of(rows)
    chosen = choose(weights, per_document, least).toarray()
    assert ((chosen == 0) | (chosen == np.array(rows, dtype=np.float32))).all()
    assert ((chosen > 0).sum(axis=1) <= per_document).all()
    given_to = (chosen > 0).sum(axis=0)
    assert (given_to[given_to > 0] >= least).all()
    if least == 1:
        offered = np.array(rows)
        np.testing.assert_array_equal((chosen > 0).sum(axis=1), np.minimum((offered > 0).sum(axis=1), per_document))
        for row, own in zip(offered, chosen, strict=True):
            assert row[own > 0].min(initial=9) >= row[own == 0].max(initial=0)
