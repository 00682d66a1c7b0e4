import shutil

import pytest
import torch

from searchrl.device import DeviceChoice
from searchrl.models.folders import smollm2_folder
from searchrl.models.transformers_lm import TransformersLM

CPU = DeviceChoice("cpu", "float32", "float32 so that tolerances are the same everywhere")


def random_model(folder, model_type, **config):
    """A two-layer model with random weights, large enough that its answers differ, and the embedded tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {
        "vocab_size": 49152,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "initializer_range": 0.5,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **{**shape, **config}))
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(smollm2_folder() / file, folder)
    return folder


@pytest.fixture(scope="session")
def lm():
    """The embedded language model."""
    return TransformersLM("smollm2-135m", CPU)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A random model with a chat template: for what must hold of any model. In small batches, so several."""
    folder = random_model(tmp_path_factory.mktemp("tiny"), "qwen2")
    shutil.copy(smollm2_folder() / "chat_template.jinja", folder)
    return TransformersLM(str(folder), CPU, token_budget=100)
