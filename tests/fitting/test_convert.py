"""Checkpoints as other trainers leave them score the same once they are converted."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from searchrl.errors import ModelError, OutputError
from searchrl.fitting.convert import convert, convert_folder
from searchrl.fitting.settings import ConvertConfig
from searchrl.reward.head import HeadReward
from searchrl.reward.registry import detect_kind
from tests.command import Shell
from tests.small_models import small_causal_lm, small_classifier
from tests.stage_commands import fit

pytestmark = pytest.mark.usefixtures("own_cache")

QUERIES = ["bread", "bread", "tide"]
DOCUMENTS = ["flour, water and yeast", "the moon pulls the sea", "the moon pulls the sea"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal language model's layers with a head on them, as transformers stores it."""
    from transformers import AutoModelForSequenceClassification

    base = small_causal_lm(tmp_path_factory.mktemp("lm"), "qwen2")
    folder = shutil.copytree(base, tmp_path_factory.mktemp("rm") / "model")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    model.save_pretrained(folder)
    return folder


def scores(folder: Path) -> np.ndarray:
    return HeadReward(folder).score(QUERIES, DOCUMENTS)


def as_trainers_do(trained: Path, folder: Path, head: str, before: str = "", file: str = "pytorch_model.bin") -> Path:
    """The same weights pickled, the head under another name, in the configuration of a causal language model."""
    shutil.copytree(trained, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    score = weights.pop("score.weight")
    if head.endswith(".pt"):
        torch.save(score, folder / head)
    else:
        weights[head] = score
    torch.save({before + key: value for key, value in weights.items()}, folder / file)
    torch.save({"lr": 0.1}, folder / "training_args.bin")
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["Qwen2ForCausalLM"]
    for name in ("id2label", "label2id"):
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("head", "before"),
    [
        ("score.weight", ""),
        ("v_head.summary.weight", ""),
        ("v_head.summary.weight", "pretrained_model."),
        ("value_head.weight", "module."),
        ("rm_head.weight", ""),
        ("score.pt", ""),
    ],
)
def test_heads_of_other_names(trained: Path, tmp_path: Path, head: str, before: str) -> None:
    source = as_trainers_do(trained, tmp_path / "theirs", head, before)
    place = tmp_path / "out"
    convert(ConvertConfig(str(source), place), print)
    assert detect_kind("out", place) == "head"
    np.testing.assert_array_equal(scores(place), scores(trained))
    assert not list(place.glob("*.bin"))


def test_a_bias_of_the_head_is_left_out_and_said(trained: Path, tmp_path: Path) -> None:
    source = as_trainers_do(trained, tmp_path / "theirs", "v_head.summary.weight")
    weights = torch.load(source / "pytorch_model.bin", weights_only=True)
    torch.save({**weights, "v_head.summary.bias": torch.tensor([0.25])}, source / "pytorch_model.bin")
    (tmp_path / "out").mkdir()
    assert "v_head.summary.bias 0.25, which moves all scores alike" in convert_folder(str(source), tmp_path / "out")


def test_a_model_that_keeps_its_head_by_its_name(tmp_path: Path) -> None:
    folder = small_classifier(tmp_path / "bert")
    source = shutil.copytree(folder, tmp_path / "pickled")
    torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    (tmp_path / "out").mkdir()
    convert_folder(str(source), tmp_path / "out")
    np.testing.assert_array_equal(scores(tmp_path / "out"), scores(folder))


def test_an_adapter_with_a_head(tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForSequenceClassification

    from searchrl.fitting.trainer import without_deprecations

    base = small_causal_lm(tmp_path / "base", "qwen2")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    with without_deprecations():
        wrapped = get_peft_model(model, LoraConfig(r=4, task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"]))
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.5)
        wrapped.save_pretrained(str(tmp_path / "adapter"))
        fresh = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
        whole = PeftModel.from_pretrained(fresh, str(tmp_path / "adapter")).merge_and_unload()
    theirs = shutil.copytree(base, tmp_path / "theirs")
    whole.save_pretrained(theirs)
    (tmp_path / "out").mkdir()
    convert_folder(str(tmp_path / "adapter"), tmp_path / "out")
    np.testing.assert_allclose(scores(tmp_path / "out"), scores(theirs), rtol=1e-4, atol=1e-5)


def test_without_a_head_it_is_a_language_model(tmp_path: Path) -> None:
    base = small_causal_lm(tmp_path / "base", "qwen2")
    torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    (tmp_path / "out").mkdir()
    assert "no head" in convert_folder(str(base), tmp_path / "out")
    assert detect_kind("out", tmp_path / "out") == "lm"


def test_the_command(shell: Shell, trained: Path, tmp_path: Path) -> None:
    source = as_trainers_do(trained, tmp_path / "theirs", "rm_head.weight")
    outcome = fit(shell, "convert", source, "converted").ok
    assert "head: rm_head.weight" in outcome.out
    assert "--reward head --reward-model converted" in outcome.out
    assert "exists already" in fit(shell, "convert", source, "converted").err


class Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path("harmed").touch, ()


def test_damage_and_harm(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = as_trainers_do(trained, tmp_path / "theirs", "score.weight")
    weights = torch.load(source / "pytorch_model.bin", weights_only=True)

    def refused(content: object, message: str) -> None:
        if isinstance(content, bytes):
            (source / "pytorch_model.bin").write_bytes(content)
        else:
            torch.save(content, source / "pytorch_model.bin")
        with pytest.raises(ModelError, match=message):
            convert(ConvertConfig(str(source), tmp_path / "out"), print)
        assert not (tmp_path / "out").exists()

    refused(pickle.dumps(Harm()), "cannot be read as weights alone")
    assert not (tmp_path / "harmed").exists()
    refused(b"", "cannot be read as weights alone")
    refused({"a": 1}, "a dictionary of tensors is expected")
    refused({**weights, "score.weight": torch.zeros(3, 16)}, "score.weight is \\(3, 16\\)")
    refused({**weights, "extra.weight": torch.zeros(2)}, "extra.weight .* has no place")
    refused({k: v for k, v in weights.items() if "layers.1" not in k}, "has no weights for model.layers.1")
    with pytest.raises(ModelError, match="there is no folder"):
        convert(ConvertConfig("nowhere", tmp_path / "out"), print)
    save_file({"a": torch.zeros(1)}, tmp_path / "there")
    with pytest.raises(OutputError, match="exists already"):
        convert(ConvertConfig(str(source), tmp_path / "there"), print)
