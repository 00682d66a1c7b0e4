"""LoRA (Hu et al. 2021) on a reward model, by PEFT: attach, keep, merge into a folder that is used by name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchrl.errors import ConfigError, ModelError
from searchrl.files import write_text

if TYPE_CHECKING:
    from torch import nn

    from searchrl.fitting.trainable import TrainableReward
    from searchrl.fitting.training_settings import LoraSettings

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""As the Llama family and its kin call them; a network without any of these gets LoRA on every linear layer."""


def attach(reward: TrainableReward, settings: LoraSettings, seed: int) -> Any:
    """Put a fresh adapter into the reward model's network and return PEFT's model around it; only the adapter, and a
    reward head, are trainable, and these are float32 whatever the base's format.

    The base's own dropout is switched off, as TRL does: the same pair must score the same. Raises ConfigError where no
    module has one of the names, or there are fewer layers.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from trl.trainer.utils import disable_dropout_in_model

    disable_dropout_in_model(reward.network)
    targets = _targets(reward.network, settings.target_modules)
    # TASK_TYPE SEQ_CLS also saves the head, which a plain LoraConfig would leave out of the adapter.
    config = LoraConfig(
        task_type=reward.task,
        r=settings.r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets,
        layers_to_transform=_last_layers(reward.network, settings.last_layers or 0, targets),
    )
    try:
        with torch.random.fork_rng(), without_deprecations():
            torch.manual_seed(seed)
            network: Any = reward.network
            return _in_float32(get_peft_model(network, config))
    except ValueError as error:
        raise ConfigError(f"target_modules {' '.join(settings.target_modules)}: {error}") from error


def _in_float32(model: Any) -> Any:
    """The same model, what is trained of it in float32: PEFT leaves a head in the base's format."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def merge(reward: TrainableReward, folder: Path, model: Any, base: Path) -> None:
    """Write the network with its adapter worked in, and its tokenizer, as a new folder; the network is changed.

    The network should be in float32: in a coarser format the sum of weight and adapter would be rounded away.

    What else lies in ``base`` for a reward to go by (a chat template's file, sentence-transformers' own) is kept.
    """
    from transformers import AutoConfig

    from searchrl.models.loading import quiet_transformers

    merged = model.merge_and_unload()
    merged.config = AutoConfig.from_pretrained(base, local_files_only=True)
    with quiet_transformers():
        merged.save_pretrained(folder)
    reward.tokenizer.save_pretrained(folder)
    extra = base / "config_sentence_transformers.json"
    if extra.is_file():
        write_text(folder / extra.name, extra.read_text(encoding="utf-8"))


def load(reward: TrainableReward, folder: Path) -> Any:
    """Put a saved adapter, head included, into a reward model's network. Raises ModelError where it does not fit."""
    from peft import PeftModel

    network: Any = reward.network
    try:
        with without_deprecations():
            return PeftModel.from_pretrained(network, str(folder))
    except Exception as error:  # a foreign or damaged folder fails in as many ways as there are files
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{folder} is not an adapter for this model ({reason})") from error


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Keep out of a command's output which names TRL, PEFT and transformers are going to change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def last_third(network: Any) -> int:
    """A third of the network's layers; 0, for all, where they have none of ``PROJECTIONS``."""
    named = not isinstance(_targets(network, ()), str)
    return int(network.config.get_text_config().num_hidden_layers) // 3 if named else 0


def _targets(network: nn.Module, names: Sequence[str]) -> list[str] | str:
    if names:
        return list(names)
    there = {name.rpartition(".")[2] for name, _ in network.named_modules()}
    found = [name for name in PROJECTIONS if name in there]
    return found or "all-linear"


def _last_layers(network: Any, count: int, targets: list[str] | str) -> list[int] | None:
    """Numbers of the last ``count`` layers; None for all."""
    if not count:
        return None
    layers = int(network.config.get_text_config().num_hidden_layers)
    if count > layers:
        raise ConfigError(f"last_layers {count}: the model has {layers}")
    if isinstance(targets, str):
        raise ConfigError(f"last_layers {count} needs target_modules for this model: the names of its projections")
    return list(range(layers - count, layers))
