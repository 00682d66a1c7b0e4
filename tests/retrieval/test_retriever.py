from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.cluster import connect
from searchrl.config import IndexConfig, RayConfig
from searchrl.errors import ConfigError
from searchrl.retrieval import dense as dense_module
from searchrl.retrieval import memory as module
from searchrl.retrieval.build import build_index
from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.memory import MemoryIndex
from searchrl.retrieval.ranking import NO_DOCUMENT, Queries
from searchrl.retrieval.retriever import Retriever
from tests.tiny import WordEncoder, corpus_of, retriever_of

CORPUS = corpus_of(
    "whales are large mammals",
    "sharks are large fish",
    "whales sing to other whales",
    "a list keeps its items in order",
    "sort the items of a list",
    "whales and sharks share the sea",
    "whales are large mammals",  # the first once more: a tie
)
QUESTIONS = ["large whales", "sort list items", "zebra", "sharks fish sea whales"]


@given(seed=st.integers(0, 10_000), depth=st.integers(1, 12))
def test_dense_search_is_brute_force(seed, depth):
    """Whole-number vectors: products are exact and ties are many."""
    rng = np.random.default_rng(seed)
    corpus = corpus_of(*["word"] * 9)
    vectors, asked = (rng.integers(-1, 2, (n, 3)).astype(np.float32) for n in (9, 5))
    exclude = rng.integers(-1, 9, 5).astype(np.int32)
    retriever = Retriever(WordEncoder(), MemoryIndex(DenseIndex(vectors), LexicalIndex(corpus)), 0.0, depth)
    queries = Queries([""] * 5, asked, retriever.index.words.query_terms([""] * 5), np.zeros(5, np.float32))
    found = retriever.search(queries, exclude)
    for row in range(5):
        pairs = [(-float(asked[row] @ vectors[d]), d) for d in range(9) if d != exclude[row]]
        best = sorted(pairs)[:depth]
        assert found.documents[row].tolist() == [d for _, d in best] + [NO_DOCUMENT] * (depth - len(best))
        assert found.scores[row].tolist() == [-s for s, _ in best] + [-np.inf] * (depth - len(best))


def scaled(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("own", range(-1, len(CORPUS)))
def test_scores_are_the_two_legs_mixed_by_the_share(share: float, own: int) -> None:
    retriever = retriever_of(CORPUS)
    queries = retriever.queries(QUESTIONS[:2], share)
    found = retriever.search(queries, np.array([own, own], dtype=np.int32))
    allowed = np.array([d for d in range(len(CORPUS)) if d != own])
    for row in range(2):
        cosine = (queries.vectors[row] @ retriever.index.dense.vectors.T)[allowed]
        bm25 = retriever.index.words.scores(queries.terms[row])[0][allowed]
        mixed = {0.0: cosine, 1.0: np.where(bm25 > 0, bm25, -np.inf)}.get(
            share, (1 - share) * scaled(cosine) + share * scaled(bm25)
        )
        expected = dict(zip(allowed.tolist(), mixed.tolist(), strict=True))
        listed = found.documents[row][found.documents[row] != NO_DOCUMENT].tolist()
        assert sorted(listed) == [d for d, score in expected.items() if score > -np.inf]
        np.testing.assert_allclose(found.scores[row][: len(listed)], [expected[d] for d in listed], atol=1e-5)
        assert (np.diff(found.scores[row][: len(listed)]) <= 0).all()


def test_a_document_that_may_not_be_returned_does_not_set_the_scale() -> None:
    """A query that is itself a document: its own copy would push all others together at the bottom."""
    retriever = retriever_of(CORPUS, share=0.5)
    found = retriever.search(retriever.queries([CORPUS.texts[2]]), np.array([2], dtype=np.int32))
    assert 2 not in found.documents[0]
    assert found.scores[0, 0] > 0.5


def test_bm25_alone_returns_no_document_without_a_shared_word() -> None:
    retriever = retriever_of(CORPUS, share=1.0)
    found = retriever.search(retriever.queries(QUESTIONS))
    assert sorted(d for d in found.documents[0] if d >= 0) == [0, 1, 2, 5, 6]
    assert found.documents[0, :2].tolist() == [0, 6], "equal documents: the lower index first"
    assert (found.documents[2] == NO_DOCUMENT).all()
    assert np.isneginf(found.scores[2]).all()


def test_hybrid_without_a_known_word_falls_back_on_the_cosine() -> None:
    retriever = retriever_of(CORPUS)
    dense = retriever.search(retriever.queries(["zebra"], 0.0))
    hybrid = retriever.search(retriever.queries(["zebra"], 0.5))
    np.testing.assert_array_equal(dense.documents, hybrid.documents)


@pytest.mark.parametrize("cells", [1, 14, 21])
def test_blocks_find_what_one_query_at_a_time_finds(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    """Queries of different shares side by side, in blocks of one, two and three."""
    retriever = retriever_of(CORPUS, depth=5)
    vectors = np.round(retriever.index.dense.vectors * 8)  # exact products, whatever the block
    retriever.index.dense = DenseIndex(vectors)
    queries = retriever.queries(QUESTIONS)
    shares = np.array([0.0, 0.4, 1.0, 0.7], dtype=np.float32)
    queries = replace(queries, vectors=np.round(queries.vectors * 8), lexical=shares)
    exclude = np.array([6, -1, 2, 0], dtype=np.int32)
    alone = [retriever.search(queries.row(i), exclude[i : i + 1]) for i in range(4)]
    monkeypatch.setattr(module, "BLOCK_CELLS", cells)
    monkeypatch.setattr(dense_module, "BLOCK_CELLS", cells)
    together = retriever.search(queries, exclude)
    for i in range(4):
        np.testing.assert_array_equal(together.row(i).documents, alone[i].documents)
        np.testing.assert_array_equal(together.row(i).scores, alone[i].scores)


def test_depth_beyond_the_corpus_is_padded() -> None:
    found = retriever_of(CORPUS, depth=9).search(retriever_of(CORPUS).queries(["whales"]))
    assert found.documents.shape == found.scores.shape == (1, 9)
    assert sorted(found.documents[0, :7]) == list(range(7))
    assert found.documents[0, 7:].tolist() == [NO_DOCUMENT] * 2
    assert np.isneginf(found.scores[0, 7:]).all()


def test_fresh_queries_carry_the_retrievers_share_unless_told() -> None:
    retriever = retriever_of(CORPUS, share=0.5)
    assert retriever.queries(["a", "b"]).lexical.tolist() == [0.5, 0.5]
    assert retriever.queries(["a"], 1.0).lexical.tolist() == [1.0]


def test_description_tells_rankings_apart() -> None:
    exact = retriever_of(CORPUS)
    assert exact.description == {"encoder": "words", "lexical_share": 0.0, "depth": 10}
    assert retriever_of(CORPUS, depth=9).description != exact.description


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(ConfigError, match="pip install"):
        build_index(CORPUS, WordEncoder(), None, IndexConfig("milvus", "http://127.0.0.1:19530"))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="pip install"):
        connect(RayConfig("local"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"index": "milvus"}, "`index` milvus needs `index_uri`"),
        ({"index_uri": "http://127.0.0.1:19530"}, "`index_uri` needs `index` milvus"),
        ({"index": "milvus", "index_uri": "http://name:word@host"}, "holds a name or password"),
        ({"index": "milvsu"}, "milvsu"),
    ],
)
def test_settings_of_an_index_that_contradict_each_other(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        IndexConfig(**settings)  # type: ignore[arg-type]
