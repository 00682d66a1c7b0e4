"""The light reader scores as transformers does, bit for bit, and keeps its hands off what it does not know."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from searchrl.device import DeviceChoice, cpu_has_int8
from searchrl.models.llama import TOKENIZERS, Llama, described, load, tokenizer
from searchrl.models.transformers_lm import TransformersLM
from tests.models.conftest import random_model

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def folder(kind: str = "Llama", **settings: Any) -> Path:
        library: Any = transformers
        torch.manual_seed(0)
        config = getattr(library, f"{kind}Config")(**{**SIZES, **settings})
        model = getattr(library, f"{kind}ForCausalLM")(config)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)  # biases too, which are zero otherwise
        model.save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Llama", {}),
        ("Llama", {"num_key_value_heads": 4, "head_dim": 16, "tie_word_embeddings": True, "rms_norm_eps": 0.01}),
        ("Llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}),
        ("Qwen2", {"num_key_value_heads": 1}),
    ],
)
def test_the_same_bits_as_transformers(write: Write, dtype: torch.dtype, kind: str, settings: dict[str, Any]) -> None:
    folder = write(kind, **settings)
    shape = described(folder)
    assert shape is not None
    light = load(folder, shape, dtype)
    library: Any = transformers
    whole = library.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    ids = torch.arange(26).view(2, 13) % 64
    seen = torch.ones(13, 13, dtype=torch.bool).tril()[None, None].repeat(2, 1, 1, 1)
    seen[1, :, 9:, 5:9] = False
    places = torch.arange(13).repeat(2, 1)
    places[1, 9:] -= 4
    packed = {"attention_mask": seen, "position_ids": places}
    with torch.inference_mode():
        for part in ({}, packed):
            own = light.base_model(ids, **part).last_hidden_state
            assert torch.equal(own, whole.base_model(ids, use_cache=False, **part).last_hidden_state)
        for rows in (ids, ids[:, :1]):
            assert torch.equal(light(rows).logits, whole(rows, use_cache=False).logits)


@pytest.mark.parametrize(
    "settings",
    [
        {"attention_bias": True},
        {"hidden_act": "gelu"},
        {"num_hidden_layers": 3},
        {"model_type": "mistral", "architectures": ["MistralForCausalLM"]},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"quantization_config": {"quant_method": "awq"}},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"num_attention_heads": 0, "head_dim": None},
        {"hidden_size": -32},
        {"hidden_size": 1 << 70},
    ],
)
def test_what_is_not_known_is_left_to_transformers(write: Write, settings: dict[str, Any]) -> None:
    folder = write()
    assert described(folder) is not None
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    assert described(folder) is None


def test_damaged_files_are_left_to_transformers_too(write: Write) -> None:
    folder = write()
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    assert described(folder) is None
    (folder / "config.json").write_text("[3]")
    assert described(folder) is None


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("named", [*TOKENIZERS, "LlamaTokenizerFast"])
def test_the_tokenizer_is_that_of_transformers(tmp_path: Path, kind: str, named: str) -> None:
    folder = random_model(tmp_path / "model", kind)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": named}))
    library: Any = transformers
    own, theirs = tokenizer(folder), library.AutoTokenizer.from_pretrained(folder)
    assert own.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
    assert own.special_tokens_map == theirs.special_tokens_map


needs_int8 = pytest.mark.skipif(not cpu_has_int8("cpu"), reason="this CPU has no fast int8 matrix product in torch")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", pytest.param("int8", marks=needs_int8)])
def test_the_embedded_model_scores_the_same_either_way(dtype: str) -> None:
    choice = DeviceChoice("cpu", dtype, "for tests")
    light, whole = TransformersLM("smollm2-135m", choice), TransformersLM("smollm2-135m", choice)
    whole.__dict__["_scorer"] = whole._model
    contexts, endings = ["tea grows in", "tea grows in", "a cat sat"], ["China", "the sea", "on a mat"]
    assert isinstance(light._scorer, Llama)
    assert (light.continuation_logprobs(contexts, endings) == whole.continuation_logprobs(contexts, endings)).all()
    assert (light.choice_logprobs(contexts, ["Yes", "No"]) == whole.choice_logprobs(contexts, ["Yes", "No"])).all()


def test_scoring_needs_no_model_of_transformers() -> None:
    code = (
        "import sys; from searchrl.models.transformers_lm import TransformersLM;"
        "TransformersLM('smollm2-135m').continuation_logprobs(['a cat'], ['sat']);"
        "print([m for m in ('transformers.modeling_utils', 'torch._dynamo', 'sympy', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
