"""A causal language model as judge that can be trained, on the very score it judges by (``reward/lm.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from searchrl.models.folders import SMALL_MODEL
from searchrl.models.prompts import Prompts, beginning
from searchrl.models.tokens import Tokens, batch_rows, first_tokens, pack, pad, text_start, text_tokens
from searchrl.models.transformers_lm import TransformersLM
from searchrl.reward.lm import ANSWERS, GRADES, LMReward, Method
from searchrl.threads import lazy

SCALES: dict[Method, float] = {"likelihood": 3.0, "pmi": 3.0, "yes_no": 1.0, "graded": 10.0}
"""See ``TrainableReward.scale``. Were each query written from its relevant documents, a likelihood's would be the
query's length, by Bayes's rule. Measured on human judgments, the untrained likelihood is as sure as it may be at 2; at
10 training does little but unlearn false certainty. A grade's expectation lies in [0, 1], too narrow for a logit."""


class TrainableLM(TransformersLM):
    """The transformers backend with its parts at hand."""

    @property
    def network(self) -> nn.Module:
        """The network, loaded at the first call."""
        network: nn.Module = self._model
        return network

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self._tokenizer

    @property
    def fill(self) -> int:
        """The token that padding carries."""
        fill: int = self._fill
        return fill

    @lazy
    def wanted(self) -> dict[Method, list[int]]:
        """The tokens that answers begin with."""
        return {
            "yes_no": first_tokens(self._tokenizer, ANSWERS),
            "graded": first_tokens(self._tokenizer, GRADES),
        }

    def context_tokens(self, text: str) -> Tokens:
        """A context as ``continuation_logprobs`` reads it."""
        tokens = text_tokens(self._tokenizer, [text], self._max_context, special=True)[text]
        return tokens or (text_start(self._tokenizer),)

    def continuation_tokens(self, text: str) -> Tokens:
        """A continuation as ``continuation_logprobs`` reads it."""
        return text_tokens(self._tokenizer, [text], self._max_continuation, special=False)[text]

    def prompt_tokens(self, prompt: str) -> Tokens:
        """A prompt as ``choice_logprobs`` reads it. Raises ModelError where it exceeds what the model reads."""
        return self._prompt_tokens([prompt], 1)[0]


@dataclass(frozen=True)
class _LMReward(LMReward):
    """What the four methods have in common."""

    lm: TrainableLM

    @property
    def task(self) -> Literal["CAUSAL_LM"]:
        """See ``TrainableReward``."""
        return "CAUSAL_LM"

    @property
    def network(self) -> nn.Module:
        """See ``TrainableReward``."""
        return self.lm.network

    @property
    def tokenizer(self) -> Any:
        """See ``TrainableReward``."""
        return self.lm.tokenizer

    @property
    def scale(self) -> float:
        """See ``TrainableReward``."""
        return SCALES[self.method]

    @property
    def learning_rate(self) -> float:
        """See ``TrainableReward``; small models take, and in a few minutes need, larger steps."""
        return 3e-3 if self.lm.parameters < SMALL_MODEL else 2e-4

    @property
    def across(self) -> bool:
        """See ``TrainableReward``; a likelihood depends on the query's own words, whatever the document."""
        return self.method != "likelihood"


class TrainableLikelihood(_LMReward):
    """Implements ``TrainableReward`` on the mean log-probability of the query given the document."""

    def encode(self, query: str, document: str) -> tuple[Tokens, Tokens]:
        """See ``TrainableReward``: a context and its continuation."""
        context = self.prompts.likelihood_context.format(document=beginning(document, self.max_document_words))
        continuation = self.prompts.likelihood_continuation.format(query=query)
        return self.lm.context_tokens(context), self.lm.continuation_tokens(continuation)

    def length(self, encoded: tuple[Tokens, Tokens]) -> int:
        """See ``TrainableReward``."""
        return len(encoded[0]) + len(encoded[1]) - 1

    def forward(self, network: nn.Module, encoded: Sequence[tuple[Tokens, Tokens]]) -> Tensor:
        """See ``TrainableReward``. A document's tokens run once for all queries that stand with it here."""
        groups: dict[Tokens, dict[Tokens, None]] = {}
        for context, continuation in encoded:
            groups.setdefault(context, {})[continuation] = None
        rows = pack({context: list(continuations) for context, continuations in groups.items()})
        packed = batch_rows(rows, self.lm.fill)
        width, device = packed.input_ids.shape[1], next(network.parameters()).device
        # Padding goes to the left, so that the rows end together: then few columns hold all predictions, and only
        # these pass through the vocabulary, the widest layer by far.
        shift = torch.tensor([width - len(row) for row in rows])
        back = (torch.arange(width) - shift[:, None]) % width
        mask = packed.attention_mask.gather(2, back[:, None, :, None].expand(-1, 1, -1, width))
        mask = mask.gather(3, back[:, None, None, :].expand(-1, 1, width, -1))
        row, column = packed.predictors // width, packed.predictors % width
        columns, place = torch.unique(column + shift[row], return_inverse=True)
        logits = network(
            input_ids=packed.input_ids.gather(1, back).to(device),
            attention_mask=mask.to(device),
            position_ids=packed.position_ids.gather(1, back).to(device),
            logits_to_keep=columns.to(device),
            use_cache=False,
        ).logits
        chosen = logits[row.to(device), place.to(device)].float()
        tokens = chosen.gather(1, packed.targets.to(device)[:, None])[:, 0] - chosen.logsumexp(1)
        means = torch.stack([part.mean() for part in torch.split(tokens, list(packed.lengths))])
        at = {(r.context, c): i for i, (r, c) in enumerate((r, c) for r in rows for c in r.continuations)}
        return means[[at[pair] for pair in encoded]]


class TrainablePmi(TrainableLikelihood):
    """Implements ``TrainableReward`` on what the document adds to that: it learns what no document says, too."""

    def forward(self, network: nn.Module, encoded: Sequence[tuple[Tokens, Tokens]]) -> Tensor:
        """See ``TrainableReward``. All queries stand in one row after the empty document."""
        empty, _ = self.encode("", "")
        alone = {continuation: i for i, continuation in enumerate(dict.fromkeys(c for _, c in encoded))}
        both = super().forward(network, [*encoded, *((empty, continuation) for continuation in alone)])
        return both[: len(encoded)] - both[len(encoded) :][[alone[continuation] for _, continuation in encoded]]


class TrainableChoice(_LMReward):
    """Implements ``TrainableReward`` on an answer's probability: the logit of Yes, or the expected grade."""

    def encode(self, query: str, document: str) -> Tokens:
        """See ``TrainableReward``: a prompt."""
        prompt = self.prompts.yes_no if self.method == "yes_no" else self.prompts.graded
        return self.lm.prompt_tokens(prompt.format(query=query, document=beginning(document, self.max_document_words)))

    def length(self, encoded: Tokens) -> int:
        """See ``TrainableReward``."""
        return len(encoded)

    def forward(self, network: nn.Module, encoded: Sequence[Tokens]) -> Tensor:
        """See ``TrainableReward``."""
        device = next(network.parameters()).device
        ids, mask = pad(encoded, self.lm.fill, "left")
        logits: Tensor = network(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=(mask.cumsum(1) - 1).clamp(min=0).to(device),
            logits_to_keep=1,
            use_cache=False,
        ).logits
        logits = logits[:, -1, self.lm.wanted[self.method]].float()
        if self.method == "yes_no":
            return logits[:, 0] - logits[:, 1]
        grades = torch.linspace(0.0, 1.0, len(GRADES), device=device)
        return logits.softmax(-1) @ grades


def trainable_lm(
    lm: TrainableLM, method: Method, prompts: Prompts, max_document_words: int
) -> TrainableLikelihood | TrainableChoice:
    """The trainable judge of one method."""
    kinds = {"likelihood": TrainableLikelihood, "pmi": TrainablePmi}
    return kinds.get(method, TrainableChoice)(lm, method, prompts, max_document_words)
