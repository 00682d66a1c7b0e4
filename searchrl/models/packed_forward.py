"""Forward passes over packed rows (``shared_context.py``): what they answer, and whether a model can take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from searchrl.device import DeviceChoice
from searchrl.models.shared_context import PackedBatch, PackedRow, Tokens, batch_rows
from searchrl.threads import lazy

LOGITS_AT_ONCE = 1 << 25
"""Float32 logits held at a time (128 MiB); the vocabulary projection runs in slices of that size."""

TOLERANCE = {"float32": 1e-3, "int8": 0.05}
"""Nats by which a packed row may differ from a plain one; 0.25 in half precision."""


class PackedForward:
    """A loaded causal language model that reads packed rows.

    fill: the token that padding carries. multiple: widths are rounded up to it. sample: a sentence, to try it on.
    """

    def __init__(self, model: Any, choice: DeviceChoice, fill: int, multiple: int, sample: Tokens) -> None:
        self._sample = sample
        self._model = model
        self._choice = choice
        self._fill = fill
        self._multiple = multiple

    @torch.inference_mode()
    def mean_logprobs(self, rows: Sequence[PackedRow]) -> list[float]:
        """Mean log-probability per token of every continuation of every row, in order."""
        packed = batch_rows(rows, self._fill, self._multiple)
        states = self._states(packed, packed.predictors)
        head = self._model.get_output_embeddings()
        size = max(1, LOGITS_AT_ONCE // self._model.config.get_text_config().vocab_size)
        targets = packed.targets.to(self._choice.device)
        parts = []
        for some, tokens in zip(torch.split(states, size), torch.split(targets, size), strict=True):
            logits = head(some).float()
            parts.append(logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(1))
        return [float(part.mean()) for part in torch.split(torch.cat(parts).cpu(), list(packed.lengths))]

    @torch.inference_mode()
    def last_logits(self, rows: Sequence[PackedRow], wanted: Tensor) -> Tensor:
        """Logits of the tokens ``wanted`` (w,) in the place of every continuation's last token, (continuations, w)."""
        packed = batch_rows(rows, self._fill, self._multiple)
        ends = torch.tensor(packed.lengths).cumsum(0) - 1
        logits: Tensor = self._model.get_output_embeddings()(self._states(packed, packed.predictors[ends]))
        return logits[:, wanted].float()

    def _states(self, packed: PackedBatch, places: Tensor) -> Tensor:
        device = self._choice.device
        hidden: Tensor = self._model.base_model(
            input_ids=packed.input_ids.to(device),
            attention_mask=packed.attention_mask.to(device),
            position_ids=packed.position_ids.to(device),
            use_cache=False,
        ).last_hidden_state
        return hidden.flatten(0, 1)[places.to(device)]

    @lazy
    def works(self) -> bool:
        """Whether packed rows score what the model's own forward pass does; found out on the sample.

        They do for transformers that take a full attention mask and project their last hidden state as it is; not for
        recurrent ones, nor where logits are scaled or capped afterwards.
        """
        context, endings = self._sample[:3], (self._sample[3:], self._sample[4:])
        expected = []
        with torch.inference_mode():
            for ending in endings:
                ids = torch.tensor([context + ending], device=self._choice.device)
                logprobs = self._model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
                expected.append(float(np.mean([float(logprobs[2 + i, token]) for i, token in enumerate(ending)])))
        difference = np.abs(np.subtract(self.mean_logprobs([PackedRow(context, endings)]), expected)).max()
        return bool(difference < TOLERANCE.get(self._choice.dtype, 0.25))
