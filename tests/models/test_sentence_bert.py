"""The light loader gives what sentence-transformers gives, and keeps its hands off what it does not know."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from searchrl.models.encoder import Encoder, LibraryModel
from searchrl.models.folders import minilm_folder
from searchrl.models.sentence_bert import SentenceBert, described, load

TEXTS = [
    "a cat sat on the mat",
    "",
    "  kittens \n on a rug ",
    "tea [SEP] grows [CLS] in China [PAD]",
    "Ünïcödé, 漢字 and ελληνικά",
    "word " * 400,
    "stock prices fell sharply today",
]


def changed(folder: Path, file: str, **settings: object) -> Path:
    """The embedded encoder with other settings."""
    shutil.copytree(minilm_folder(), folder)
    (folder / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **settings}))
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_same_bits_as_sentence_transformers(tmp_path: Path, dtype: torch.dtype, pooling: str) -> None:
    modes = {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"}
    folder = changed(tmp_path / "encoder", "1_Pooling/config.json", **modes)
    shape = described(folder)
    assert shape is not None
    light, library = load(folder, shape, "cpu", dtype), LibraryModel(folder, "cpu", dtype)
    assert light.longest == library.longest
    for texts in (TEXTS, TEXTS[:1], TEXTS[3:6]):
        assert (light.encode(texts) == library.encode(texts)).all()


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config.json", {"model_type": "roberta"}),
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"num_hidden_layers": 7}),
        ("config.json", {"num_attention_heads": 0}),
        ("config.json", {"hidden_size": -384}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("tokenizer_config.json", {"tokenizer_class": "MPNetTokenizer"}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}),
        ("config_sentence_transformers.json", {"prompts": {"query": "find: "}}),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}),
    ],
)
def test_what_is_not_known_is_left_to_sentence_transformers(tmp_path: Path, file: str, settings: dict) -> None:  # type: ignore[type-arg]
    assert described(changed(tmp_path / "encoder", file, **settings)) is None


def test_damaged_files_are_left_to_sentence_transformers_too(tmp_path: Path) -> None:
    folder = changed(tmp_path / "encoder", "config.json")
    (folder / "modules.json").write_text("[3]")
    assert described(folder) is None


def test_the_embedded_encoder_needs_no_heavy_library() -> None:
    code = (
        "import sys; from searchrl.models.encoder import Encoder; Encoder(dtype='float32').encode(['a cat']);"
        "print([m for m in ('transformers', 'sentence_transformers', 'torch._dynamo', 'sklearn', 'pandas', 'scipy')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert isinstance(Encoder()._model, SentenceBert)
