from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.device import DeviceChoice
from searchrl.errors import ConfigError, ModelError
from searchrl.models.prompts import load_prompts
from searchrl.models.transformers_lm import TransformersLM
from searchrl.reward.lm import QwenReranker, context_tokens
from tests.small_models import small_causal_lm

PROMPTS = load_prompts()
CPU = DeviceChoice("cpu", "float32", "tests")
QUERY = "What is the capital of China?"
DOCUMENTS = ["The capital of China is Beijing.", "Gravity attracts two bodies.", "", "Rain  falls.\n\nOften.", "yes"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_causal_lm(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(scope="module")
def reranker(folder: Path) -> QwenReranker:
    lm = TransformersLM(str(folder), CPU, max_context_tokens=context_tokens(PROMPTS, 60), token_budget=300)
    return QwenReranker(lm, PROMPTS, max_document_words=60)


def as_published(folder: Path, query: str, documents: list[str]) -> list[float]:
    """The recipe of the model's card: prefix, content and suffix tokenized apart, left padding, last logits."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    prefix = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    )
    suffix = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    before, after = (tokenizer.encode(text, add_special_tokens=False) for text in (prefix, suffix))
    contents = [
        f"<Instruct>: {PROMPTS.reranker_instruction}\n<Query>: {query}\n<Document>: {document}"
        for document in documents
    ]
    rows = [before + tokenizer.encode(content, add_special_tokens=False) + after for content in contents]
    inputs = tokenizer.pad({"input_ids": rows}, padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**inputs).logits[:, -1, :]
    answers = [tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes")]
    return logits[:, answers].softmax(-1)[:, 1].tolist()


def test_scores_are_those_of_the_published_recipe(folder: Path, reranker: QwenReranker) -> None:
    scores = reranker.score([QUERY] * len(DOCUMENTS), DOCUMENTS)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, as_published(folder, QUERY, DOCUMENTS), atol=1e-4)
    assert len(np.unique(scores.round(3))) == len(DOCUMENTS)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_long_texts_lose_their_ends_and_the_form_does_not(reranker: QwenReranker) -> None:
    long = "rain falls " * 100
    documents = reranker.score([QUERY] * 2, [long, long + "cheese"])
    assert documents[0] == pytest.approx(documents[1], abs=1e-6)
    queries = reranker.score([long, long + "cheese"], ["grass"] * 2)
    assert queries[0] == pytest.approx(queries[1], abs=1e-6)
    read = reranker.score([long] * 2, ["cheese", "rain"])
    assert read[0] != pytest.approx(read[1], abs=1e-3)


@settings(max_examples=50)
@given(query=st.text(max_size=900), document=st.text(max_size=700))
@pytest.mark.parametrize("fill", ["", "\U0001d11e" * 900, "word " * 500])
def test_whatever_the_texts_the_language_model_cuts_nothing(query: str, document: str, fill: str) -> None:
    seen = []

    class Recorder:
        fingerprint = "recorder"

        def continuation_logprobs(self, contexts: list[str], answers: list[str]) -> np.ndarray:
            seen.extend(contexts)
            return np.zeros(len(contexts), dtype=np.float32)

    lm: Any = Recorder()
    QwenReranker(lm, PROMPTS, max_document_words=60).score([query + fill], [document + fill])
    assert max(len(context.encode()) for context in seen) <= context_tokens(PROMPTS, 60)
    assert seen[0].endswith(PROMPTS.reranker_form[PROMPTS.reranker_form.index("<|im_end|>\n<|im_start|>assistant") :])


def test_fingerprint_follows_instruction_and_cut(reranker: QwenReranker) -> None:
    others = [
        QwenReranker(reranker.lm, replace(PROMPTS, reranker_instruction="Find code"), 60),
        QwenReranker(reranker.lm, PROMPTS, 61),
    ]
    assert len({r.fingerprint for r in [reranker, *others]}) == 3
    found = others[0].score([QUERY], ["rain"]), reranker.score([QUERY], ["rain"])
    assert found[0][0] != pytest.approx(found[1][0], abs=1e-4)


def test_no_pairs_and_lone_surrogates(reranker: QwenReranker) -> None:
    assert reranker.score([], []).shape == (0,)
    assert np.isfinite(reranker.score(["\ud800 rain"], ["\udfff"])).all()


def test_impossible_limits_and_scores_are_errors() -> None:
    class Broken:
        fingerprint = "broken"

        def continuation_logprobs(self, contexts: list[str], answers: list[str]) -> np.ndarray:
            return np.full(len(contexts), np.nan, dtype=np.float32)

    lm: Any = Broken()
    with pytest.raises(ConfigError, match="max_document_words 0"):
        QwenReranker(lm, PROMPTS, max_document_words=0)
    with pytest.raises(ModelError, match="no finite score for the query 'rain'"):
        QwenReranker(lm, PROMPTS).score(["rain"], ["cheese"])


def test_the_forms_name_has_not_changed(reranker: QwenReranker) -> None:
    """What was remembered of it with earlier versions still applies."""
    published = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert published == PROMPTS.reranker_form
