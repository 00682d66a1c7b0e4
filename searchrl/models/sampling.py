"""Two small hooks into transformers' ``generate``: a random stream for each prompt, and a stop at the end of a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria


class GumbelSampling(LogitsProcessor):  # type: ignore[misc,unused-ignore]
    """Turns greedy decoding into sampling, each row from its own generator.

    The largest of logits / temperature plus Gumbel noise is a draw from the softmax (Gumbel-max). transformers' own
    sampling draws all rows from one stream, so that a prompt's answer would depend on what else is in the batch.
    """

    def __init__(self, temperature: float, generators: Sequence[torch.Generator]) -> None:
        self._temperature = temperature
        self._generators = generators

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores whose argmax is the draw, (rows, vocabulary) float32."""
        noise = torch.empty_like(scores, dtype=torch.float32)
        for row, generator in zip(noise, self._generators, strict=True):
            row.exponential_(generator=generator)
        return scores.float() / self._temperature - noise.log()


class EndOfLine(StoppingCriteria):  # type: ignore[misc,unused-ignore]
    """Ends a row once its new text has a line break after something that is not white space."""

    def __init__(self, tokenizer: Any, prompt_width: int) -> None:
        self._tokenizer = tokenizer
        self._prompt_width = prompt_width

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """Which rows are done, (rows,) bool."""
        texts = self._tokenizer.batch_decode(input_ids[:, self._prompt_width :], skip_special_tokens=True)
        return torch.tensor(["\n" in text.lstrip() for text in texts], device=input_ids.device)
