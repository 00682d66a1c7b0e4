from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.errors import ConfigError, ModelError
from searchrl.reward.head import CrossEncoderReward
from tests.small_models import small_classifier

QUERY = "why does rain fall"
DOCUMENTS = ["rain", "clouds hold water and let it fall as rain", "cheese is made from milk " * 5, "", "short words"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_classifier(tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="module")
def reward(folder: Path) -> CrossEncoderReward:
    return CrossEncoderReward(folder, batch_size=2)


def logit(folder: Path, query: str, document: str) -> float:
    """One pair's output straight from transformers."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return float(model(**tokenizer([[query, document]], return_tensors="pt")).logits[0, 0])


def with_config(folder: Path, target: Path, **changes: object) -> Path:
    """A copy of a model with other words in its ``config.json``."""
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **changes}))
    return target


def test_scores_are_the_models_own_through_a_sigmoid(folder: Path, reward: CrossEncoderReward) -> None:
    scores = reward.score([QUERY] * len(DOCUMENTS), DOCUMENTS)
    assert scores.dtype == np.float32
    logits = np.array([logit(folder, QUERY, document) for document in DOCUMENTS])
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), atol=1e-5)
    assert len(np.unique(scores.round(4))) == len(DOCUMENTS)
    assert reward.absolute


def test_the_activation_that_the_author_chose_is_used(folder: Path, tmp_path: Path) -> None:
    bare = with_config(
        folder, tmp_path / "bare", sbert_ce_default_activation_function="torch.nn.modules.linear.Identity"
    )
    reward = CrossEncoderReward(bare)
    np.testing.assert_allclose(reward.score([QUERY], ["rain"]), [logit(folder, QUERY, "rain")], atol=1e-5)
    assert not reward.absolute


@settings(max_examples=10)
@given(order=st.permutations(range(len(DOCUMENTS))), size=st.integers(1, len(DOCUMENTS)))
def test_a_pairs_score_does_not_depend_on_its_company(reward: CrossEncoderReward, order: list[int], size: int) -> None:
    together = reward.score([QUERY] * len(DOCUMENTS), DOCUMENTS)
    some = order[:size]
    np.testing.assert_allclose(reward.score([QUERY] * size, [DOCUMENTS[i] for i in some]), together[some], atol=1e-5)


def test_long_documents_lose_their_end(folder: Path) -> None:
    reward = CrossEncoderReward(folder, max_length=24)
    long = "rain falls " * 100
    same = reward.score([QUERY] * 2, [long, long + "cheese"])
    assert same[0] == same[1]


def test_no_pairs_and_lone_surrogates(reward: CrossEncoderReward) -> None:
    assert reward.score([], []).shape == (0,)
    assert np.isfinite(reward.score(["\ud800 rain"], ["\udfff"])).all()


def test_fingerprint_follows_format_cut_and_weights(folder: Path, reward: CrossEncoderReward, tmp_path: Path) -> None:
    other = with_config(folder, tmp_path / "other", hidden_act="relu")
    names = {
        reward.fingerprint,
        CrossEncoderReward(folder, dtype="bfloat16").fingerprint,
        CrossEncoderReward(folder, max_length=100).fingerprint,
        CrossEncoderReward(other).fingerprint,
    }
    assert len(names) == 4
    assert CrossEncoderReward(folder).fingerprint == reward.fingerprint


def test_what_is_not_a_cross_encoder_gets_one_clear_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has 2 outputs, a reranker has one"):
        CrossEncoderReward(small_classifier(tmp_path / "two", outputs=2))
    with pytest.raises(ModelError, match="is a BertModel, not a reranker"):
        CrossEncoderReward(small_classifier(tmp_path / "headless", head=False))
    with pytest.raises(ModelError, match="no model folder"):
        CrossEncoderReward(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"the cross-encoder .* cannot be loaded"):
        CrossEncoderReward(tmp_path / "empty")
    damaged = with_config(folder, tmp_path / "damaged")
    (damaged / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        CrossEncoderReward(damaged)
    with pytest.raises(ConfigError, match="does not run in int8"):
        CrossEncoderReward(folder, dtype="int8")


def test_weights_in_pickle_are_not_read(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    pickled = with_config(folder, tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"the cross-encoder .* cannot be loaded"):
        CrossEncoderReward(pickled)
