from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from searchrl.config import GameConfig
from searchrl.data.dataset import Corpus
from searchrl.errors import ConfigError
from searchrl.retrieval import approximate as module
from searchrl.retrieval.approximate import TARGET_RECALL, ApproximateIndex, FaissIndex, build_approximate_index
from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.ranking import NO_DOCUMENT
from searchrl.retrieval.retriever import Retriever
from tests.tiny import WordEncoder, corpus_of, retriever_of

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="FAISS is not installed (pip install faiss-cpu)"
)
SIZE, DIM, K = 4_000, WordEncoder.dim, 20
CORPUS = corpus_of(*(f"word{i}" for i in range(SIZE)))
NOBODY = np.full(SIZE, NO_DOCUMENT, dtype=np.int32)


@pytest.fixture(scope="module")
def dense() -> DenseIndex:
    """Vectors around 60 topics, as texts have them."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(60, DIM))[rng.integers(0, 60, SIZE)] + 0.5 * rng.normal(size=(SIZE, DIM))
    return DenseIndex((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))


@pytest.fixture(scope="module")
def index(dense: DenseIndex) -> ApproximateIndex:
    return build_approximate_index(CORPUS, WordEncoder(), dense, None)


@needs_faiss
def test_recall_is_what_it_says(dense: DenseIndex, index: ApproximateIndex) -> None:
    asked = np.arange(0, SIZE, 7)
    exact = dense.search(dense.vectors[asked], 100, NOBODY[asked]).documents
    found = index.search(dense.vectors[asked], 100, NOBODY[asked]).documents
    recall = np.mean([np.isin(e, f).mean() for e, f in zip(exact, found, strict=True)])
    assert index.recall >= TARGET_RECALL
    assert recall == pytest.approx(index.recall, abs=0.02)
    assert index.probes < len(index.centroids), "every list is probed: that is exact search"
    assert f"recall@100 {index.recall:.3f}" in index.description


@needs_faiss
def test_what_is_found_is_in_order_and_scored_by_its_cosine(dense: DenseIndex, index: ApproximateIndex) -> None:
    found = index.search(dense.vectors[:50], K, NOBODY[:50])
    assert found.documents[:, 0].tolist() == list(range(50))
    cosines = np.einsum("nd,nkd->nk", dense.vectors[:50], dense.vectors[found.documents])
    np.testing.assert_allclose(found.scores, cosines, atol=1e-5)
    assert (np.diff(found.scores, axis=1) <= 0).all()


@needs_faiss
def test_an_excluded_document_makes_room_for_the_next(dense: DenseIndex, index: ApproximateIndex) -> None:
    everyone = index.search(dense.vectors[:50], K + 1, NOBODY[:50])
    others = index.search(dense.vectors[:50], K, np.arange(50, dtype=np.int32))
    np.testing.assert_array_equal(others.documents, everyone.documents[:, 1:])
    np.testing.assert_array_equal(others.scores, everyone.scores[:, 1:])


@needs_faiss
def test_equal_documents_come_in_the_order_of_the_corpus_and_short_lists_are_padded() -> None:
    vectors = np.repeat(np.eye(DIM, dtype=np.float32)[:2], 3, axis=0)
    index = ApproximateIndex(DenseIndex(vectors), vectors[[0, 3]], np.array([0, 0, 0, 1, 1, 1], np.int32), 1, 1.0)
    found = index.search(vectors[[0, 3]], 7, np.array([1, -1], np.int32))
    assert found.documents.tolist() == [[0, 2, *[-1] * 5], [3, 4, 5, *[-1] * 4]]
    assert np.isneginf(found.scores[0, 2:]).all()


@needs_faiss
def test_a_stored_index_finds_the_same_and_a_damaged_one_is_rebuilt(
    dense: DenseIndex, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = WordEncoder()
    caplog.set_level(logging.INFO, logger=module.__name__)
    first = build_approximate_index(CORPUS, encoder, dense, tmp_path)
    expected = first.search(dense.vectors, K, NOBODY)
    file = next(tmp_path.glob("index/*-ivf/member.npy"))
    assert file.stat().st_size < dense.vectors.nbytes / 8
    assert first.description in caplog.text
    again = build_approximate_index(CORPUS, encoder, dense, tmp_path)
    assert isinstance(again.member, np.memmap)
    file.write_bytes(file.read_bytes()[:-4])
    rebuilt = build_approximate_index(CORPUS, encoder, dense, tmp_path)
    assert "damaged and will be rebuilt" in caplog.text
    for index in (again, rebuilt):
        assert index.description == first.description
        found = index.search(dense.vectors, K, NOBODY)
        np.testing.assert_array_equal(found.documents, expected.documents)
        np.testing.assert_array_equal(found.scores, expected.scores)


@needs_faiss
def test_only_dense_queries_are_searched_approximately() -> None:
    """An index that puts the last document alone in the only list probed: whoever asks it finds nothing else."""
    corpus: Corpus = corpus_of("whales sing", "sharks swim", "lists sort")
    exact = retriever_of(corpus, depth=3)
    member = np.array([0, 0, 1], np.int32)
    centroids = np.stack([-exact.index.dense.vectors[2], exact.index.dense.vectors[2]])
    few = ApproximateIndex(exact.index.dense, centroids, member, 1, 0.3)
    retriever = Retriever(exact.encoder, FaissIndex(exact.index.dense, exact.index.words, few), 0.0, 3)
    assert retriever.description == {**exact.description, "approximate": few.description}
    assert retriever.search(retriever.queries(["lists"])).documents.tolist() == [[2, -1, -1]]
    for share in (0.3, 1.0):
        queries = retriever.queries(["whales", "lists"], share)
        np.testing.assert_array_equal(retriever.search(queries).documents, exact.search(queries).documents)


def test_without_faiss_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match="pip install 'faiss-cpu"):
        module.import_faiss()


def test_hybrid_and_negative_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="`ann_above` 5 with `retriever` hybrid"):
        GameConfig(ann_above=5, retriever="hybrid")
    with pytest.raises(ConfigError, match="`ann_above` -1"):
        GameConfig(ann_above=-1)
    assert GameConfig().ann_above == 0
