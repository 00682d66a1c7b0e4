"""An adapter is a model: what PEFT computes with it, read without PEFT."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from searchrl.device import DeviceChoice
from searchrl.errors import ModelError
from searchrl.files import SEAL, damage, shipped, write_seal
from searchrl.fitting.trainer import without_deprecations
from searchrl.models.folders import REWARD_ADAPTER, language_model_folder
from searchrl.models.transformers_lm import TransformersLM
from searchrl.reward.calibrated import Calibration, Recipe
from tests.small_models import small_causal_lm

pytestmark = pytest.mark.usefixtures("own_cache")

EXACT = DeviceChoice("cpu", "float32", "for tests")
CONTEXTS, CONTINUATIONS = ["cats sleep all day", "dogs bark at night"], ["who sleeps", "who barks at night"]


def adapter_of(base: Path, folder: Path, **settings: object) -> Path:
    """Random, so that it changes what the model says; B is 0 in a new one."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(0)
    with without_deprecations():
        wrapped = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **settings))
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.5)
        wrapped.save_pretrained(str(folder))
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return small_causal_lm(tmp_path / "base")


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}], ids=["plain", "rank stabilised"])
def test_it_says_what_peft_says(base: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = adapter_of(base, tmp_path / "adapter", **settings)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with without_deprecations():
        wrapped = PeftModel.from_pretrained(model, str(folder))
        wrapped.merge_and_unload().save_pretrained(tmp_path / "by_peft")
    ours, theirs = language_model_folder(str(folder)), load_file(tmp_path / "by_peft" / "model.safetensors")
    for name, weight in load_file(ours / "model.safetensors").items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-5, atol=1e-6)
    plain, changed = (
        TransformersLM(str(f), EXACT).continuation_logprobs(CONTEXTS, CONTINUATIONS) for f in (base, folder)
    )
    assert np.abs(plain - changed).min() > 1e-3
    assert language_model_folder(str(folder)) == ours, "made once"


def test_what_does_not_fit_is_refused(base: Path, tmp_path: Path) -> None:
    folder = adapter_of(base, tmp_path / "adapter")
    file, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    config, tensors = json.loads(file.read_text()), load_file(weights)

    file.write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(ModelError, match="use_dora True are not read"):
        language_model_folder(str(folder))
    file.write_text(json.dumps({**config, "r": None}))
    with pytest.raises(ModelError, match="lacks r"):
        language_model_folder(str(folder))
    file.write_text(json.dumps({**config, "base_model_name_or_path": str(tmp_path / "gone")}))
    with pytest.raises(ModelError, match=r"is an adapter, whose base is missing: .*gone.*merged/"):
        language_model_folder(str(folder))
    file.write_text("{")
    with pytest.raises(ModelError, match=r"adapter_config\.json cannot be read"):
        language_model_folder(str(folder))
    file.write_text(json.dumps(config))
    first = sorted(tensors)[0]
    save_file({**tensors, first.replace("layers.0", "layers.99"): tensors[first].clone()}, weights)
    with pytest.raises(ModelError, match=r"does not fit its base .*layers\.99"):
        language_model_folder(str(folder))
    weights.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be worked into"):
        language_model_folder(str(folder))


def test_a_sealed_folder_is_held_to_what_was_written(base: Path, tmp_path: Path) -> None:
    """Weights, settings, and how the model scores: a flipped bit of any file is refused."""
    folder = adapter_of(base, tmp_path / "adapter")
    Recipe("pmi", 80, Calibration(2.0, -1.0)).write(folder)
    write_seal(folder)
    language_model_folder(str(folder))
    draw = random.Random(0)
    for file in sorted(folder.iterdir()):
        content = bytearray(file.read_bytes())
        for _ in range(3):
            bit = draw.randrange(8 * len(content))
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            file.write_bytes(flipped)
            if file.name == SEAL:
                continue  # a seal that cannot be read is none, or names another digest
            with pytest.raises(ModelError, match=f"{file.name} is not what was written: .* remove seal.json"):
                language_model_folder(str(folder))
        file.write_bytes(content)
    (folder / "reward.json").unlink()
    with pytest.raises(ModelError, match=r"reward\.json cannot be read"):
        language_model_folder(str(folder))
    (folder / SEAL).unlink()
    language_model_folder(str(folder))


def test_the_reward_model_that_ships_is_held_to_what_was_written() -> None:
    folder = shipped(REWARD_ADAPTER)
    assert not damage(folder)
    assert (folder / SEAL).is_file()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8_000_000
