"""Reward models that can be trained: they score as SearchRL's own do, and also differentiably."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from searchrl.config import ScorerName
from searchrl.device import DeviceChoice
from searchrl.errors import ConfigError, ModelError
from searchrl.models.folders import judging_method
from searchrl.models.loader import CONTEXT_TOKENS
from searchrl.reward.head import Encoded, HeadReward
from searchrl.reward.registry import KEY_WORDS, TOKENS_PER_WORD
from searchrl.reward.reward_model import RewardModel

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from searchrl.reward.lm import Method


class TrainableReward(RewardModel, Protocol):
    """A ``RewardModel`` over a network whose layers may be changed in place; ``score`` then uses them as they are."""

    @property
    def task(self) -> Literal["SEQ_CLS", "CAUSAL_LM"]:
        """PEFT's name for the kind of network."""
        ...

    @property
    def network(self) -> nn.Module:
        """The network, as transformers loaded it."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The network's tokenizer."""
        ...

    @property
    def scale(self) -> float:
        """What a difference of scores is multiplied by to be read as a logit."""
        ...

    @property
    def learning_rate(self) -> float:
        """What it is trained with unless told otherwise."""
        ...

    @property
    def across(self) -> bool:
        """Whether scores of different queries can be compared, and so may be trained to."""
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

    task: Literal["SEQ_CLS"] = "SEQ_CLS"
    scale = 1.0
    across = True
    learning_rate = 2e-4

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
        """See ``TrainableReward``."""
        logits: Tensor = network(**self._together(encoded)).logits
        return logits[:, 0].float()


def trainable_reward(
    name: str | None, scorer: ScorerName, choice: DeviceChoice, max_words: int | None, prompts: Path | None
) -> TrainableReward:
    """What is trained under a model's name: as ``make_reward`` would choose it, but pmi in the place of likelihood.

    name: None for the device's language model. Raises ConfigError on a scorer that cannot be trained here, or a setting
    it does not have; ModelError where the model cannot be had.
    """
    from searchrl.models.folders import default_language_model, language_model_folder
    from searchrl.models.loading import causal_lm_facts
    from searchrl.reward.registry import detect_kind

    if choice.dtype == "int8":
        raise ConfigError("dtype int8 cannot be trained: use float32, or bfloat16 where the device computes it")
    name = name or default_language_model(choice.device)
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
    from searchrl.fitting.trainable_lm import TrainableLM, trainable_lm
    from searchrl.models.prompts import load_prompts
    from searchrl.models.transformers_lm import SHORTEST_CUT

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
    return trainable_lm(lm, method, load_prompts(prompts), words)


def new_head(name: str | None, choice: DeviceChoice, place: Path, seed: int) -> Path:
    """Write a causal language model with a head of small random weights, one output, as the folder ``place``.

    The head reads the last token, which a chat template must end. Built once: a whole folder is used as it is. Raises
    ModelError where the model has no class with a head.
    """
    import torch
    import transformers

    from searchrl.files import sealed_folder
    from searchrl.models.folders import default_language_model, language_model_folder
    from searchrl.models.loading import loading

    library: Any = transformers
    name = name or default_language_model(choice.device)
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
            raise ModelError(f"{name} cannot be given a head: {next(iter(str(error).splitlines()), '')}") from error
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return sealed_folder(place, build)
