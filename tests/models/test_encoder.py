import json
import shutil

import numpy as np
import pytest

from searchrl.errors import ModelError
from searchrl.models.encoder import Encoder
from searchrl.models.folders import minilm_folder, smollm2_folder

TEXTS = ["a cat sat on the mat", "", "kitten on a rug", "stock prices fell sharply today", "a\ud800b", "cat"]


@pytest.fixture(scope="module")
def encoder():
    return Encoder(token_budget=20)


def test_unit_vectors_in_the_order_of_the_texts(encoder):
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dim) == (6, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(encoder.encode([text])[0], vector, atol=1e-5)
    assert vectors[0] @ vectors[2] > 0.4 > vectors[0] @ vectors[3]


def test_the_same_call_repeats_bit_for_bit(encoder):
    assert (encoder.encode(TEXTS) == encoder.encode(TEXTS)).all()


def test_queries_are_remembered_and_their_vectors_stay_the_same_bits(encoder, monkeypatch):
    alone = [encoder.encode([text], kind="query")[0].copy() for text in TEXTS]
    monkeypatch.setattr("searchrl.models.encoder.REMEMBERED", 3)
    fresh = Encoder(token_budget=20)
    for asked in (TEXTS, TEXTS[::-1], [TEXTS[0], *TEXTS, TEXTS[0]]):
        found = fresh.encode(asked, kind="query")
        assert (found == [alone[TEXTS.index(text)] for text in asked]).all()
        found[:] = 0.0  # belongs to whoever asked
        assert len(fresh._remembered) <= 3


def test_no_texts(encoder):
    assert encoder.encode([]).shape == (0, 384)


def test_texts_are_cut_at_the_models_length(encoder):
    start = "word " * 300
    long, longer = encoder.encode([start + "cat", start + "dog"])
    np.testing.assert_allclose(long, longer, atol=1e-5)


def test_prompts_of_a_model_that_defines_them_are_used(encoder, tmp_path):
    folder = tmp_path / "prompted"
    shutil.copytree(minilm_folder(), folder)
    settings = folder / "config_sentence_transformers.json"
    prompts = {"prompts": {"query": "find: ", "document": "text: "}}
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **prompts}))
    prompted = Encoder(str(folder))
    assert prompted.fingerprint != encoder.fingerprint
    query, document = (prompted.encode(["cats"], kind=kind)[0] for kind in ("query", "document"))
    np.testing.assert_allclose([query, document], encoder.encode(["find: cats", "text: cats"]), atol=1e-5)


def test_a_language_model_is_not_an_encoder():
    with pytest.raises(ModelError, match=r"modules\.json"):
        Encoder(str(smollm2_folder()))


def test_damaged_weights_are_one_error(tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(minilm_folder(), folder)
    (folder / "model.safetensors").write_bytes((minilm_folder() / "model.safetensors").read_bytes()[:10_000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        Encoder(str(folder)).encode(["text"])


def with_similarity(folder, name, normalised=False):
    """The embedded encoder, made to compare its vectors otherwise."""
    shutil.copytree(minilm_folder(), folder)
    settings = folder / "config_sentence_transformers.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "similarity_fn_name": name}))
    modules = json.loads((folder / "modules.json").read_text())
    kept = [m for m in modules if normalised or not m["type"].endswith("Normalize")]
    (folder / "modules.json").write_text(json.dumps(kept))
    return str(folder)


def test_a_model_made_for_inner_products_is_compared_by_them(encoder, tmp_path):
    from sentence_transformers import SentenceTransformer

    dot = Encoder(with_similarity(tmp_path / "dot", "dot"), dtype="float32")
    vectors = dot.encode(TEXTS)
    model = SentenceTransformer(str(tmp_path / "dot"), device="cpu")
    own = model.similarity(model.encode([TEXTS[0]]), model.encode([t.replace("\ud800", "?") for t in TEXTS]))
    np.testing.assert_allclose(vectors[:1] @ vectors.T, own.numpy(), rtol=1e-4)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).min() > 0.1
    same = Encoder(with_similarity(tmp_path / "same", "cosine"), dtype="float32")
    assert (dot.similarity, same.similarity) == ("dot", "cosine")
    assert dot.fingerprint != same.fingerprint


def test_a_similarity_that_is_neither_is_refused_unless_it_orders_alike(encoder, tmp_path):
    with pytest.raises(ModelError, match="compares by euclidean"):
        Encoder(with_similarity(tmp_path / "far", "euclidean"))
    alike = Encoder(with_similarity(tmp_path / "unit", "euclidean", normalised=True))
    assert alike.similarity == "cosine"
