"""How much work a language model has to do at the least: tokens read, and floating-point operations.

Useful operations only, a multiplication and an addition counting as two: linear layers for each token, attention for
each pair of positions where one may see the other, the vocabulary projection for each position whose logits are read.
Padding, repeated contexts and masked positions are no use and do not count, whatever a backend spends on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from searchrl.models.folders import quiet_transformers
from searchrl.models.language_model import FloatArray
from searchrl.models.tokens import prompt_tokens, text_tokens

TEXT_TOKENS = 256
"""Where ``TransformersLM`` cuts a context or a continuation."""


@dataclass(frozen=True)
class ModelShape:
    """Operations of one forward pass, by what they grow with."""

    per_token: float
    """Of all linear layers below the vocabulary projection, for one token."""
    per_sight: float
    """Of attention in all layers, for one position that sees one position (itself included)."""
    per_logits: float
    """Of the vocabulary projection, for one position."""


def model_shape(folder: Path) -> ModelShape:
    """Count the linear layers of a causal language model; its weights are not loaded."""
    import torch
    import transformers
    from transformers.pytorch_utils import Conv1D

    library: Any = transformers  # whose types lag behind its arguments
    with quiet_transformers(), torch.device("meta"):
        config = library.AutoConfig.from_pretrained(folder, local_files_only=True)
        model = library.AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    layers = [m for m in model.base_model.modules() if isinstance(m, torch.nn.Linear | Conv1D)]
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return ModelShape(
        per_token=2.0 * sum(layer.weight.numel() for layer in layers),
        per_sight=4.0 * text.num_attention_heads * width * text.num_hidden_layers,
        per_logits=2.0 * model.get_output_embeddings().weight.numel(),
    )


class WorkCounter:
    """A ``LanguageModel`` that answers nothing sensible but counts what answering would take.

    Each call counts every distinct context once for all its continuations, and of prompts that begin alike the common
    beginning once.
    """

    fingerprint = "counter"

    def __init__(self, tokenizer: Any, shape: ModelShape) -> None:
        self._tokenizer = tokenizer
        self._shape = shape
        self.tokens = 0
        self.operations = 0.0

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """Not counted."""
        return [""] * len(prompts)

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> FloatArray:
        """Count each prompt's tokens but for those it shares with its neighbour in sorted order."""
        before: list[int] = []
        for row in sorted(prompt_tokens(self._tokenizer, prompts)):
            shared = _common_beginning(before, row)
            self._add(len(row) - shared, _sights(len(row)) - _sights(shared), 1)
            before = row
        return np.full((len(prompts), len(choices)), -np.log(len(choices)), dtype=np.float32)

    def continuation_logprobs(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Count each distinct context, and each distinct pair's continuation but for its last token."""
        starts = text_tokens(self._tokenizer, contexts, TEXT_TOKENS, special=True)
        endings = text_tokens(self._tokenizer, continuations, TEXT_TOKENS, special=False)
        for context in dict.fromkeys(contexts):
            self._add(len(starts[context]), _sights(len(starts[context])), 0)
        for context, continuation in dict.fromkeys(zip(contexts, continuations, strict=True)):
            before, new = len(starts[context]), max(0, len(endings[continuation]) - 1)
            self._add(new, _sights(before + new) - _sights(before), len(endings[continuation]))
        return np.zeros(len(contexts), dtype=np.float32)

    def _add(self, tokens: int, sights: int, logits: int) -> None:
        self.tokens += tokens
        shape = self._shape
        self.operations += tokens * shape.per_token + sights * shape.per_sight + logits * shape.per_logits


def _sights(length: int) -> int:
    """Pairs of positions where the later, or the same, sees the earlier."""
    return length * (length + 1) // 2


def _common_beginning(one: Sequence[int], other: Sequence[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
