"""Encoders whose vectors have lengths of their own: everything that compares vectors takes the inner product."""

from __future__ import annotations

import numpy as np

from searchrl.env.features import query_features
from searchrl.reformulate.reformulator import mix_vectors, move
from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.memory import MemoryIndex
from searchrl.retrieval.ranking import Queries, lengths
from searchrl.retrieval.retriever import Retriever
from tests.tiny import WordEncoder, corpus_of

TEXTS = ["tea grows", "salt melts ice", "coal burns", "ice floats on tea"]
SCALE = np.array([[1.0], [3.0], [0.5], [9.0]], dtype=np.float32)


class DotEncoder(WordEncoder):
    """The longer a text, the longer its vector."""

    def encode(self, texts, **kind):  # type: ignore[no-untyped-def]
        return super().encode(texts, **kind) * np.array([[float(len(t))] for t in texts], dtype=np.float32)


def test_dense_and_hybrid_search_order_by_inner_products() -> None:
    corpus, encoder = corpus_of(*TEXTS), DotEncoder()
    vectors = encoder.encode(TEXTS, kind="document", show_progress=False, description="")
    retriever = Retriever(encoder, MemoryIndex(DenseIndex(vectors), LexicalIndex(corpus)), 0.0, 4)
    queries = retriever.queries(["tea", "ice melts"])
    products = queries.vectors @ vectors.T
    np.testing.assert_array_equal(retriever.search(queries).documents, np.argsort(-products, axis=1))
    mixed = retriever.search(retriever.queries(["tea", "ice melts"], 0.5))
    words = retriever.index.words.scores(queries.terms)
    unit = [(m - m.min(1, keepdims=True)) / np.ptp(m, axis=1)[:, None] for m in (products, words)]
    np.testing.assert_array_equal(mixed.documents, np.argsort(-(unit[0] + unit[1]), axis=1, kind="stable"))


def test_feedback_turns_a_query_and_keeps_its_length() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 8)).astype(np.float32) * 7
    words = LexicalIndex(corpus_of(*"abcdef"))
    index, unit_index = (MemoryIndex(DenseIndex(v), words) for v in (vectors, vectors / lengths(vectors)))
    asked = rng.normal(size=(2, 8)).astype(np.float32) * 3
    documents = np.array([[0, 1], [2, -1]], dtype=np.int32)
    unit = move(asked / np.linalg.norm(asked, axis=1, keepdims=True), unit_index, documents, 0.3)
    for moved in (move(asked, index, documents, 0.3), mix_vectors(asked, asked[::-1], 0.3)):
        np.testing.assert_allclose(np.linalg.norm(moved, axis=1), np.linalg.norm(asked, axis=1), rtol=1e-5)
    np.testing.assert_allclose(move(asked, index, documents, 0.3), unit * lengths(asked), rtol=1e-4, atol=1e-5)


def test_a_query_that_stays_has_not_drifted() -> None:
    vectors = np.full((1, 4), 2.0, dtype=np.float32)
    terms = LexicalIndex(corpus_of(*TEXTS)).query_terms(["tea"])
    queries = Queries(["tea"], vectors, terms, np.zeros(1, dtype=np.float32))
    assert abs(float(query_features(queries, queries, 1, 5, True, False)[0, 0])) < 1e-6


def test_unit_vectors_stay_as_they_are_to_the_last_bit() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (lengths(vectors) == 1.0).all()
    assert (vectors / lengths(vectors) == vectors).all()
