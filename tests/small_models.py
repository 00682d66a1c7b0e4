"""A scorer without a model, small enough to know by heart, and small random models of every kind that scores."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from searchrl.models.folders import minilm_folder, smollm2_folder
from searchrl.models.language_model import FloatArray


class OverlapReward:
    """The share of a query's words that a document has; counts what it was asked, and may be slow."""

    absolute = True

    def __init__(self, seconds: float = 0.0, fingerprint: str = "overlap") -> None:
        self.asked: list[tuple[str, str]] = []
        self.calls: list[int] = []
        self.fingerprint = fingerprint
        self._seconds = seconds

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """See ``RewardModel.score``."""
        time.sleep(self._seconds)
        self.asked += zip(queries, documents, strict=True)
        self.calls.append(len(queries))
        return np.array([overlap(q, d) for q, d in zip(queries, documents, strict=True)], dtype=np.float32)


def overlap(query: str, document: str) -> float:
    """What ``OverlapReward`` says of one pair."""
    words = set(query.lower().split())
    return len(words & set(document.lower().split())) / max(1, len(words))


def small_classifier(folder: Path, *, outputs: int = 1, head: bool = True, chat_template: str | None = None) -> Path:
    """A tiny BERT classifier with random weights, its tokenizer the embedded encoder's."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    if chat_template:
        tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(tokenizer), num_labels=outputs, initializer_range=0.3, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        (BertForSequenceClassification if head else BertModel)(config).save_pretrained(folder)
    return folder


def small_causal_lm(folder: Path, kind: str = "qwen3", positions: int = 16384, layers: int = 2) -> Path:
    """A tiny causal language model with random weights, its tokenizer and chat template the embedded one's."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        kind,
        vocab_size=49152,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=positions,
        initializer_range=0.5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(smollm2_folder() / file, folder)
    return folder


CHAT = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} [SEP] {% endfor %}"


def small_models(place: Path) -> dict[str, Path]:
    """One of every kind that there is a scorer for, by what it should be taken for."""
    from sentence_transformers import CrossEncoder

    kinds = {
        "lm": small_causal_lm(place / "qwen2", "qwen2"),
        "qwen3_reranker": small_causal_lm(place / "Qwen3-Reranker-tiny"),
        "head": small_classifier(place / "pair"),
        "chat head": small_classifier(place / "chat", chat_template=CHAT),
        "cross_encoder": place / "cross",
    }
    CrossEncoder(str(kinds["head"]), device="cpu").save_pretrained(str(kinds["cross_encoder"]))
    return kinds
