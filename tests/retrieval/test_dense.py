from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.data.dataset import Corpus
from searchrl.retrieval import dense as module
from searchrl.retrieval.dense import DenseIndex, build_dense_index
from tests.tiny import WordEncoder, corpus_of

CORPUS = corpus_of("whales sing", "sharks swim", "lists sort")


def folder_of(cache: Path) -> Path:
    return next((cache / "index").iterdir())


def test_scores_are_cosines() -> None:
    encoder = WordEncoder()
    index = build_dense_index(CORPUS, encoder, None, show_progress=False)
    asked = encoder.encode(["whales sing", "sort"], kind="query", show_progress=False, description="")
    assert len(index) == 3
    assert index.scores(asked).dtype == np.float32
    np.testing.assert_allclose(index.scores(asked), asked @ index.vectors.T, atol=1e-6)
    assert index.scores(asked)[0, 0] == pytest.approx(1.0, abs=1e-6)


def test_documents_are_encoded_with_their_titles() -> None:
    titled = Corpus(["a"], ["whales"], ["sing"])
    with_title = build_dense_index(titled, WordEncoder(), None, show_progress=False)
    np.testing.assert_allclose(with_title.vectors, build_dense_index(CORPUS, WordEncoder(), None, False).vectors[:1])


def test_a_stored_index_is_mapped_not_encoded_again(tmp_path: Path) -> None:
    encoder = WordEncoder()
    first = build_dense_index(CORPUS, encoder, tmp_path, show_progress=False)
    again = build_dense_index(CORPUS, encoder, tmp_path, show_progress=False)
    assert encoder.encoded == 3
    assert isinstance(again.vectors, np.memmap)
    assert not again.vectors.flags.writeable
    np.testing.assert_array_equal(first.vectors, again.vectors)


def test_another_corpus_or_encoder_has_an_index_of_its_own(tmp_path: Path) -> None:
    encoder, other = WordEncoder(), WordEncoder()
    other.fingerprint = "other words"
    build_dense_index(CORPUS, encoder, tmp_path, show_progress=False)
    build_dense_index(corpus_of("whales sing", "sharks swim", "lists sorted"), encoder, tmp_path, show_progress=False)
    build_dense_index(CORPUS, other, tmp_path, show_progress=False)
    assert (encoder.encoded, other.encoded) == (6, 3)
    assert len(list((tmp_path / "index").iterdir())) == 3


def test_without_a_cache_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build_dense_index(CORPUS, WordEncoder(), None, show_progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "renamed", "no meta"])
def test_a_damaged_index_is_rebuilt_after_saying_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    encoder = WordEncoder()
    sound = build_dense_index(CORPUS, encoder, tmp_path, show_progress=False)
    file, meta = folder_of(tmp_path) / "vectors.npy", folder_of(tmp_path) / "meta.json"
    whole = file.read_bytes()
    if damage == "flipped":
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "truncated":
        file.write_bytes(whole[:-4])
    elif damage == "missing":
        file.unlink()
    elif damage == "renamed":  # sound files, but not an index
        file.rename(file.with_name("other.npy"))
        meta.write_text(meta.read_text().replace("vectors", "other"))
    else:
        meta.unlink()
    assert not caplog.records
    rebuilt = build_dense_index(CORPUS, encoder, tmp_path, show_progress=False)
    assert "damaged and will be rebuilt" in caplog.text
    assert encoder.encoded == 6
    np.testing.assert_array_equal(rebuilt.vectors, sound.vectors)
    caplog.clear()
    build_dense_index(CORPUS, encoder, tmp_path, show_progress=False)
    assert not caplog.records
    assert encoder.encoded == 6
    assert file.read_bytes() == whole


def test_an_index_takes_any_rows() -> None:
    index = DenseIndex(np.eye(3, dtype=np.float32))
    assert index.scores(np.array([[0, 1, 0]], dtype=np.float32)).tolist() == [[0, 1, 0]]


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 40),
    n=st.integers(0, 7),
    k=st.integers(1, 45),
    height=st.integers(1, 8),
    cells=st.integers(1, 60),
)
def test_search_in_blocks_is_brute_force(seed, size, n, k, height, cells):
    """Whole-number vectors, whose products are exact: ties are many, and blocks cannot change a bit."""
    rng = np.random.default_rng(seed)
    vectors, queries = (rng.integers(-1, 2, (count, 3)).astype(np.float32) for count in (size, n))
    exclude = rng.integers(-1, size, n).astype(np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_QUERIES", height)
        patch.setattr(module, "BLOCK_CELLS", cells)
        found = DenseIndex(vectors).search(queries, k, exclude)
    assert found.documents.shape == found.scores.shape == (n, k)
    for row in range(n):
        best = sorted((-float(queries[row] @ vectors[d]), d) for d in range(size) if d != exclude[row])[:k]
        assert found.documents[row].tolist() == [d for _, d in best] + [-1] * (k - len(best))
        assert found.scores[row].tolist() == [-s for s, _ in best] + [-np.inf] * (k - len(best))


def test_search_finds_what_the_whole_product_finds_and_copies_no_vectors(tmp_path: Path) -> None:
    """Mapped whole-number vectors, several blocks; memory stays below that of the vectors and of the score matrix."""
    rng = np.random.default_rng(3)
    vectors, queries = (rng.integers(-9, 10, (count, 32)).astype(np.float32) for count in (60_000, 100))
    np.save(tmp_path / "vectors.npy", vectors)
    index = DenseIndex(np.load(tmp_path / "vectors.npy", mmap_mode="r"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_CELLS", 1 << 17)
        tracemalloc.start()
        found = index.search(queries, 10, np.full(100, -1, np.int32))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    whole = index.scores(queries)
    order = np.argsort(-whole, axis=1, kind="stable")[:, :10]
    np.testing.assert_array_equal(found.documents, order)
    np.testing.assert_array_equal(found.scores, np.take_along_axis(whole, order, axis=1))
    assert peak < 8 * 4 * (1 << 17) < min(index.vectors.nbytes, whole.nbytes)
