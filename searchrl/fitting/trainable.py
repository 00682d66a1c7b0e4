"""Reward models that can be trained: they score as SearchRL's own do, and also differentiably."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import transformers
from torch import Tensor, nn

from searchrl.config import ScorerName
from searchrl.device import DeviceChoice
from searchrl.errors import ConfigError, ModelError, reason
from searchrl.files import sealed_folder
from searchrl.models.folders import (
    SMALL_MODEL,
    causal_lm_facts,
    judging_method,
    language_model_folder,
    loading,
)
from searchrl.models.loader import CONTEXT_TOKENS
from searchrl.models.prompts import beginning, fill, load_prompts
from searchrl.models.tokens import (
    Tokens,
    batch_rows,
    default_budget,
    first_tokens,
    pack,
    pad,
    text_tokens,
    token_batches,
)
from searchrl.models.transformers_lm import SHORTEST_CUT, TransformersLM
from searchrl.reward.head import Encoded, HeadReward
from searchrl.reward.lm import ANSWERS, GRADES, LMReward, Method
from searchrl.reward.registry import KEY_WORDS, TOKENS_PER_WORD, detect_kind
from searchrl.reward.reward_model import RewardModel
from searchrl.threads import lazy


@dataclass(frozen=True)
class Traits:
    """What training has to know of a reward model."""

    task: Literal["SEQ_CLS", "CAUSAL_LM"]
    """PEFT's name for the kind of network."""
    scale: float
    """What a difference of scores is multiplied by to be read as a logit."""
    learning_rate: float
    """What it is trained with unless told otherwise."""
    across: bool
    """Whether scores of different queries can be compared, and so may be trained to."""


class TrainableReward(RewardModel, Protocol):
    """A ``RewardModel`` over a network whose layers may be changed in place; ``score`` then uses them as they are."""

    @property
    def traits(self) -> Traits:
        """How it is trained."""
        ...

    @property
    def network(self) -> nn.Module:
        """The network, as transformers loaded it."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The network's tokenizer."""
        ...

    def encode(self, query: str, document: str) -> Any:
        """The tokens of one pair."""
        ...

    def length(self, encoded: Any) -> int:
        """How many tokens those are."""
        ...

    def forward(self, network: nn.Module, encoded: Sequence[Any]) -> Tensor:
        """Scores of n encoded pairs, (n,) float32, with gradients; ``network`` is its own, perhaps wrapped.

        They order pairs as ``score`` does: for probabilities (``yes_no``) they are its logits, else the very same.
        """
        ...


class TrainableHead(HeadReward):
    """Implements ``TrainableReward`` on the raw output of a sequence classification model."""

    traits = Traits("SEQ_CLS", scale=1.0, learning_rate=2e-4, across=True)

    @property
    def network(self) -> nn.Module:
        """See ``TrainableReward``."""
        network: nn.Module = self._model
        return network

    @property
    def tokenizer(self) -> Any:
        """See ``TrainableReward``; pads with the token by which the network finds a row's last one."""
        self._tokenizer.pad_token = self._tokenizer.convert_ids_to_tokens(self._pad)
        return self._tokenizer

    def encode(self, query: str, document: str) -> Encoded:
        """See ``TrainableReward``; a conversation or a plain pair, as ``HeadReward`` reads it."""
        return self._encode(query, document)

    def length(self, encoded: Encoded) -> int:
        """See ``TrainableReward``."""
        return len(encoded["input_ids"])

    def forward(self, network: nn.Module, encoded: Sequence[Encoded]) -> Tensor:
        """See ``TrainableReward``. Texts of similar length together: less padding, and what is computed twice fits."""
        budget = default_budget(next(network.parameters()).device.type)
        batches = token_batches([self.length(one) for one in encoded], budget)
        parts = [network(**self._together([encoded[i] for i in batch])).logits[:, 0].float() for batch in batches]
        place = torch.tensor([i for batch in batches for i in batch]).argsort()
        return torch.cat(parts)[place.to(parts[0].device)]


def trainable_reward(
    name: str, scorer: ScorerName, choice: DeviceChoice, max_words: int | None, prompts: Path | None
) -> TrainableReward:
    """What is trained under a model's name: as ``make_reward`` would choose it, but pmi in the place of likelihood.

    Raises ConfigError on a scorer that cannot be trained here, or a setting it does not have; ModelError where the
    model cannot be had.
    """
    if choice.dtype == "int8":
        raise ConfigError("dtype int8 cannot be trained: use float32, or bfloat16 where the device computes it")
    folder = language_model_folder(name)
    kind = scorer if scorer != "auto" else detect_kind(name, folder)
    if kind == "qwen3_reranker":
        raise ConfigError(
            f"{name} is a Qwen3-Reranker, whose form is not trained here: train it as a plain language model with "
            "scorer yes_no"
        )
    if kind in ("head", "cross_encoder"):
        if max_words is not None or prompts is not None:
            raise ConfigError("max_key_words and prompts are for language models: this model has a head")
        return TrainableHead(folder, choice.device, choice.dtype)
    method: Method = kind  # type: ignore[assignment]
    if kind == "lm":
        # Trained as pmi, a model also orders a query's documents by likelihood; the other way about, queries of
        # different length would not be compared.
        judges = judging_method(causal_lm_facts(name, folder).parameters)
        method = "pmi" if judges == "likelihood" else judges
    words = max_words or KEY_WORDS["lm"]
    context = max(CONTEXT_TOKENS, TOKENS_PER_WORD * words)
    rest = CONTEXT_TOKENS if context == CONTEXT_TOKENS else SHORTEST_CUT  # the cuts that ``ModelLoader`` makes
    lm = TrainableLM(str(folder), choice, max_context_tokens=context, max_continuation_tokens=rest)
    trained = {"likelihood": TrainableLikelihood, "pmi": TrainablePmi}.get(method, TrainableChoice)
    return trained(lm, method, load_prompts(prompts), words)


def new_head(name: str, place: Path, seed: int) -> Path:
    """Write a causal language model with a head of small random weights, one output, as the folder ``place``.

    The head reads the last token, which a chat template must end. Built once: a whole folder is used as it is. Raises
    ModelError where the model has no class with a head.
    """
    library: Any = transformers
    source = language_model_folder(name)

    def build(folder: Path) -> None:
        try:
            with loading(), torch.random.fork_rng():
                torch.manual_seed(seed)
                tokenizer = library.AutoTokenizer.from_pretrained(source, local_files_only=True)
                network = library.AutoModelForSequenceClassification.from_pretrained(
                    source, num_labels=1, dtype=torch.float32, local_files_only=True, use_safetensors=True
                )
        except ValueError as error:
            raise ModelError(f"{name} cannot be given a head: {reason(error)}") from error
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return sealed_folder(place, build)


SCALES: dict[Method, float] = {"likelihood": 3.0, "pmi": 3.0, "yes_no": 1.0, "graded": 10.0}
"""See ``Traits.scale``. Were each query written from its relevant documents, a likelihood's would be the
query's length, by Bayes's rule. Measured on human judgments, the untrained likelihood is as sure as it may be at 2; at
10 training does little but unlearn false certainty. A grade's expectation lies in [0, 1], too narrow for a logit."""


class TrainableLM(TransformersLM):
    """The transformers backend with its parts at hand."""

    @lazy
    def _scorer(self) -> Any:
        """What is trained is what scores: the light reader would have the weights of the file."""
        return self._model

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
        return {"yes_no": first_tokens(self._tokenizer, ANSWERS), "graded": first_tokens(self._tokenizer, GRADES)}

    def context_tokens(self, text: str) -> Tokens:
        """A context as ``continuation_logprobs`` reads it."""
        return text_tokens(self._tokenizer, [text], self._max_context, special=True)[text]

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
    def traits(self) -> Traits:
        """See ``TrainableReward``. Small models take, and in a few minutes need, larger steps; a likelihood depends on
        the query's own words, whatever the document.
        """
        rate = 3e-3 if self.lm.parameters < SMALL_MODEL else 2e-4
        return Traits("CAUSAL_LM", SCALES[self.method], rate, across=self.method != "likelihood")

    @property
    def network(self) -> nn.Module:
        """See ``TrainableReward``."""
        return self.lm.network

    @property
    def tokenizer(self) -> Any:
        """See ``TrainableReward``."""
        return self.lm.tokenizer


class TrainableLikelihood(_LMReward):
    """Implements ``TrainableReward`` on the mean log-probability of the query given the document."""

    def encode(self, query: str, document: str) -> tuple[Tokens, Tokens]:
        """See ``TrainableReward``: a context and its continuation."""
        context = fill(self.prompts.likelihood_context, document=beginning(document, self.max_document_words))
        continuation = fill(self.prompts.likelihood_continuation, query=query)
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
        return self.lm.prompt_tokens(fill(prompt, query=query, document=beginning(document, self.max_document_words)))

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
