from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from searchrl.data.dataset import Corpus
from searchrl.device import DeviceChoice
from searchrl.errors import ConfigError
from searchrl.models.language_model import FloatArray, LanguageModel
from searchrl.models.prompts import Prompts, load_prompts
from searchrl.models.transformers_lm import TransformersLM
from searchrl.reformulate.lm import LMReformulator, check, clean
from searchrl.reformulate.reformulator import mix_vectors
from searchrl.retrieval.dense import DenseIndex, TextKind
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.memory import MemoryIndex
from searchrl.retrieval.ranking import NO_DOCUMENT, Queries, Ranking
from searchrl.retrieval.retriever import Retriever

PROMPTS = load_prompts()
CORPUS = Corpus(
    ["a", "b", "c", "d"],
    ["", "Cheese", "", ""],
    ["clouds hold water and let it fall as rain", "is made of milk", "whales are mammals", "word " * 50],
)
LEXICAL = LexicalIndex(CORPUS)
DIRECTIONS: list[str] = ["narrow", "broaden"]


class Scripted:
    """A language model that knows its answers by heart, and keeps the prompts it was given."""

    fingerprint = "scripted"

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.prompts: list[str] = []

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        assert temperature == 0.0
        self.prompts += prompts
        return list(self.answers[: len(prompts)])

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> FloatArray:
        raise AssertionError("a reformulator judges nothing")

    continuation_logprobs = choice_logprobs


class Letters:
    """An encoder: how often each letter occurs, as a unit vector."""

    fingerprint, dim = "letters", 26

    def encode(self, texts: Sequence[str], *, kind: TextKind, show_progress: bool, description: str) -> FloatArray:
        assert kind == "query"
        counts = np.array([[t.lower().count(c) + 1e-3 for c in "abcdefghijklmnopqrstuvwxyz"] for t in texts])
        return np.asarray(counts / np.linalg.norm(counts, axis=1, keepdims=True), dtype=np.float32)


RETRIEVER = Retriever(Letters(), MemoryIndex(DenseIndex(np.zeros((4, 26), np.float32)), LEXICAL), 0.0, 10)


def queries(*texts: str, lexical: float = 0.25) -> Queries:
    return RETRIEVER.queries(texts, lexical)


def ranking(*rows: Sequence[int]) -> Ranking:
    documents = np.array(rows, dtype=np.int32)
    return Ranking(documents, np.where(documents >= 0, 1.0, -np.inf).astype(np.float32))


def reformulator(lm: LanguageModel, prompts: Prompts = PROMPTS, anchor: float = 0.5) -> LMReformulator:
    return LMReformulator(lm, RETRIEVER, CORPUS, prompts, anchor)


def test_the_answer_becomes_text_vector_and_terms_anchored_on_the_original() -> None:
    original, current = queries("rain"), queries("rain from clouds")
    new = reformulator(Scripted('"water falls as rain"')).reformulate("narrow", original, current, ranking([0, 1]))
    assert new.texts == ["water falls as rain"]
    written = queries("water falls as rain")
    half = original.vectors + written.vectors
    np.testing.assert_allclose(new.vectors, half / np.linalg.norm(half), rtol=1e-5)
    expected = (original.terms + written.terms).toarray() / 2
    np.testing.assert_allclose(new.terms.toarray(), expected)
    assert new.vectors.dtype == new.terms.dtype == new.lexical.dtype == np.float32


@pytest.mark.parametrize(("anchor", "kept"), [(1.0, "rain"), (0.0, "milk")])
def test_anchor_is_the_originals_share(anchor: float, kept: str) -> None:
    lm = Scripted("milk")
    new = reformulator(lm, anchor=anchor).reformulate("narrow", queries("rain"), queries("rain"), ranking([0]))
    np.testing.assert_allclose(new.vectors, queries(kept).vectors, atol=1e-6)
    assert (new.terms != queries(kept).terms).nnz == 0


def test_narrow_keeps_the_lexical_share_and_broaden_lifts_it_to_a_half() -> None:
    now = queries("rain", "rain")
    now = Queries(now.texts, now.vectors, now.terms, np.array([0.25, 0.8], dtype=np.float32))
    last = ranking([0], [0])
    narrow = reformulator(Scripted("milk", "milk")).reformulate("narrow", now, now, last)
    broaden = reformulator(Scripted("milk", "milk")).reformulate("broaden", now, now, last)
    np.testing.assert_array_equal(narrow.lexical, now.lexical)
    np.testing.assert_allclose(broaden.lexical, [0.5, 0.8])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_bad_answers_leave_their_queries_as_they_were_and_are_counted(direction: str) -> None:
    bad = ["", "Rain from CLOUDS!", "the search query is about clouds", "rain and " * 40]
    current = queries(*["rain from clouds"] * 5)
    rewriter = reformulator(Scripted(*bad, "milk"))
    new = rewriter.reformulate(direction, queries(*["rain"] * 5), current, ranking(*[[0]] * 5))  # type: ignore[arg-type]
    assert new.texts == [*current.texts[:4], "milk"]
    np.testing.assert_array_equal(new.vectors[:4], current.vectors[:4])
    np.testing.assert_array_equal(new.lexical[:4], current.lexical[:4])
    assert (new.terms[:4] != current.terms[:4]).nnz == 0
    assert (new.terms[4] != current.terms[4]).nnz > 0
    assert rewriter.counts == {"empty": 1, "same": 1, "echo": 1, "runaway": 1, "ok": 1}


def test_a_batch_of_bad_answers_alone_gives_back_the_current_queries() -> None:
    current = queries("rain", "milk")
    rewriter = reformulator(Scripted("", "Milk."))
    new = rewriter.reformulate("narrow", current, current, ranking([0], [1]))
    assert new.texts == current.texts
    assert rewriter.counts == {"empty": 1, "same": 1}


def test_counts_add_up_over_calls_and_belong_to_one_object() -> None:
    rewriter, other = reformulator(Scripted("milk")), reformulator(Scripted("milk"))
    assert not rewriter.counts
    for _ in range(3):
        rewriter.reformulate("narrow", queries("rain"), queries("rain"), ranking([0]))
    assert rewriter.counts == {"ok": 3}
    assert not other.counts


def test_the_model_sees_both_queries_and_how_the_top_documents_begin() -> None:
    filled = "{query}|{original}|{documents}"
    prompts = replace(PROMPTS, narrow=f"N {filled}", broaden=f"B {filled}")
    for direction, mark in [("narrow", "N"), ("broaden", "B")]:
        lm = Scripted("x", "y", "z")
        last = ranking([1, 3, 2, 0], [0, NO_DOCUMENT, NO_DOCUMENT, NO_DOCUMENT], [NO_DOCUMENT] * 4)
        reformulator(lm, prompts).reformulate(direction, queries(*"abc"), queries(*"def"), last)  # type: ignore[arg-type]
        first, second, third = lm.prompts
        assert first == f"{mark} d|a|- Cheese is made of milk\n- {' '.join(['word'] * 16)}\n- whales are mammals"
        assert second == f"{mark} e|b|- clouds hold water and let it fall as rain"
        assert third == f"{mark} f|c|- nothing"


def test_braces_in_queries_and_documents_are_left_alone() -> None:
    lm = Scripted("milk")
    reformulator(lm).reformulate("narrow", queries("{query}"), queries("dict {0}"), ranking([0]))
    assert "dict {0}" in lm.prompts[0]


@pytest.mark.parametrize(
    ("answer", "query"),
    [
        ("heart disease", "heart disease"),
        ('\n\n  "heart   disease"  \nI hope this helps!', "heart disease"),
        ("Query: heart disease", "heart disease"),
        ("New search query: “heart disease”", "heart disease"),
        ('"Query: heart disease"', "heart disease"),
        ("**Broader query:** heart disease", "heart disease"),
        ("1. heart disease\n2. lungs", "heart disease"),
        ("- heart disease", "heart disease"),
        ("Rewritten query:\nheart disease", "heart disease"),
        ("3.5 inch disk", "3.5 inch disk"),
        ("-1 as an index", "-1 as an index"),
        ("what a query: clause means", "what a query: clause means"),
        ("list.sort(key=len)", "list.sort(key=len)"),
        ("", ""),
        (' "" \n', ""),
    ],
)
def test_clean(answer: str, query: str) -> None:
    assert clean(answer) == query


@given(st.text())
def test_clean_gives_one_tidy_line_of_the_answers_own_characters(answer: str) -> None:
    query = clean(answer)
    assert query == " ".join(query.split())
    assert len(query.splitlines()) <= 1
    assert query.replace(" ", "") in "".join(answer.split()) or not query
    assert clean(query) == "" or clean(query) in query


TEMPLATE = "Name the topic in a few words.\nCoffee and sleep in adults: coffee and sleep\n{query}:"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("heart", "ok"),
        ("?!", "empty"),
        ("rain from clouds.", "same"),
        ("why rain falls", "ok"),
        ("coffee and sleep", "echo"),
        ("the topic in a few words is rain", "echo"),
        ("a few words", "echo"),
        ("rain in a few places", "ok"),
        ('The search query for "rain"', "echo"),
        ("rain " * 20, "ok"),
        ("rain " * 22, "runaway"),
    ],
)
def test_check(answer: str, outcome: str) -> None:
    assert check(answer, "why rain falls", "rain from clouds", TEMPLATE) == outcome


def test_what_the_user_wrote_is_no_echo() -> None:
    assert check("search query in a few words", "a search query in a few words", "topic", TEMPLATE) == "ok"
    assert check("coffee and sleep", "coffee and sleep", "caffeine", TEMPLATE) == "ok"


@given(st.floats(0, 1), st.integers(0, 99))
def test_mixed_vectors_are_unit_and_lie_between(share: float, seed: int) -> None:
    first, second = np.random.default_rng(seed).normal(size=(2, 3, 5)).astype(np.float32)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    mixed = mix_vectors(first, second, share)
    np.testing.assert_allclose(np.linalg.norm(mixed, axis=1), 1.0, atol=1e-5)
    apart = (first * second).sum(axis=1)
    assert ((mixed * first).sum(axis=1) >= apart - 1e-5).all()
    assert ((mixed * second).sum(axis=1) >= apart - 1e-5).all()


def test_fingerprint_follows_what_rewritings_depend_on() -> None:
    lm = Scripted()
    names = [
        reformulator(lm).fingerprint,
        reformulator(lm, anchor=0.7).fingerprint,
        reformulator(lm, replace(PROMPTS, narrow="{query}", broaden="{query}")).fingerprint,
        LMReformulator(lm, RETRIEVER, CORPUS, PROMPTS, max_new_tokens=8).fingerprint,
    ]
    assert len(set(names)) == len(names)
    assert reformulator(lm).lm_calls == 1


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"anchor 1\.5"):
        reformulator(Scripted(), anchor=1.5)
    with pytest.raises(ConfigError, match="max_new_tokens 0"):
        LMReformulator(Scripted(), RETRIEVER, CORPUS, PROMPTS, max_new_tokens=0)


def test_the_embedded_model_rewrites_the_same_way_twice() -> None:
    lm = TransformersLM("smollm2-135m", DeviceChoice("cpu", "float32", "for tests"))
    rewriter = LMReformulator(lm, RETRIEVER, CORPUS, PROMPTS, max_new_tokens=10)
    now, last = queries("the force of gravity pulls a ball down"), ranking([0, 1, 2])
    for direction in DIRECTIONS:
        first, second = (rewriter.reformulate(direction, now, now, last) for _ in range(2))  # type: ignore[arg-type]
        assert first.texts == second.texts
        np.testing.assert_array_equal(first.vectors, second.vectors)
        assert sparse.issparse(first.terms)
    assert rewriter.counts["ok"] >= 2, rewriter.counts
