from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from searchrl.data.dataset import Corpus
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
