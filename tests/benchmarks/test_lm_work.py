"""The counted work is held against torch's own counter of floating-point operations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.lm_work import ModelShape, WorkCounter, model_shape
from searchrl.models.language_model import LanguageModel
from tests.models.conftest import random_model

UNIT = ModelShape(per_token=1.0, per_sight=1000.0, per_logits=1e6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("tiny"), "llama", head_dim=12)


@pytest.fixture
def counter(folder: Path) -> WorkCounter:
    return WorkCounter(AutoTokenizer.from_pretrained(folder), UNIT)


@pytest.mark.parametrize("length", [1, 7, 40])
def test_a_models_shape_gives_what_torch_counts(folder: Path, length: int) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        model(torch.arange(length)[None], use_cache=False)
    shape = model_shape(folder)
    # Eager attention computes the masked half, too.
    expected = length * (shape.per_token + shape.per_logits) + length**2 * shape.per_sight
    assert counted.get_total_flops() == pytest.approx(expected)


def test_it_answers_as_a_language_model(counter: WorkCounter) -> None:
    assert isinstance(counter, LanguageModel)
    assert counter.generate(["a", "b"], max_new_tokens=3) == ["", ""]
    assert counter.choice_logprobs(["a", "b"], ["Yes", "No"]).shape == (2, 2)


def test_a_context_counts_once_for_all_its_continuations(counter: WorkCounter, folder: Path) -> None:
    context, first, second = "one two three", " four five six", " seven eight"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert [len(tokenizer(text)["input_ids"]) for text in (context, first, second)] == [3, 3, 2]
    counter.continuation_logprobs([context] * 3, [first, second, second])
    # Nothing follows a continuation's last token, so it is not read: 3 + 2 + 1 tokens. Each sees those before it.
    assert counter.tokens == 6
    sights = (1 + 2 + 3) + (4 + 5) + 4
    assert counter.operations == 6 * UNIT.per_token + sights * UNIT.per_sight + (3 + 2) * UNIT.per_logits


def test_the_common_beginning_of_prompts_counts_once(counter: WorkCounter) -> None:
    counter.choice_logprobs(["one two three"], ["Yes", "No"])
    assert counter.tokens == 3
    counter.choice_logprobs(["one two three four", "one two three five six", "one two three four"], ["Yes", "No"])
    assert counter.tokens == 3 + (4 + 2)
    assert counter.operations % UNIT.per_logits % UNIT.per_sight == counter.tokens
