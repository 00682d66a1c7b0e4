"""A reward head that can be trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from searchrl.reward.head import Encoded, HeadReward

if TYPE_CHECKING:
    from torch import Tensor, nn


class HeadScorer(HeadReward):
    """Implements ``TrainableScorer`` on the raw output of a sequence classification model."""

    task: Literal["SEQ_CLS"] = "SEQ_CLS"
    scale = 1.0
    across = True
    learning_rate = 2e-4

    @property
    def network(self) -> nn.Module:
        """See ``TrainableScorer``."""
        network: nn.Module = self._model
        return network

    @property
    def tokenizer(self) -> Any:
        """See ``TrainableScorer``; pads with the token by which the network finds a row's last one."""
        self._tokenizer.pad_token = self._tokenizer.convert_ids_to_tokens(self._pad)
        return self._tokenizer

    def encode(self, query: str, document: str) -> Encoded:
        """See ``TrainableScorer``; a conversation or a plain pair, as ``HeadReward`` reads it."""
        return self._encode(query, document)

    def length(self, encoded: Encoded) -> int:
        """See ``TrainableScorer``."""
        return len(encoded["input_ids"])

    def forward(self, network: nn.Module, encoded: Sequence[Encoded]) -> Tensor:
        """See ``TrainableScorer``."""
        logits: Tensor = network(**self._together(encoded)).logits
        return logits[:, 0].float()
