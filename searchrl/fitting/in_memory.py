"""Fitting from Python: preferences in memory go in, the trained reward model comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchrl.config import ComputeConfig, DtypeName, sort_settings
from searchrl.errors import ConfigError
from searchrl.fitting.settings import (
    FittingConfig,
    LoraSettings,
    LossName,
    PreferenceDataConfig,
    TrainAdpoLoraConfig,
    TrainLoraConfig,
)

if TYPE_CHECKING:
    from searchrl.reward.reward_model import RewardModel

LORA = ("r", "lora_alpha", "lora_dropout", "target_modules")
"""Fields of PEFT's ``LoraConfig`` that are settings here under the same name."""

SILENT = ("base_model_name_or_path", "inference_mode", "revision", "peft_type", "task_type", "auto_mapping")
"""Fields that change nothing in what is trained, or are read otherwise."""


def fit(
    dataset_list: Sequence[Mapping[str, Any]],
    model: str | Path | None = None,
    peft_config: Any = None,
    *,
    output_dir: str | Path,
    loss: LossName = "pairwise",
    device: str = "auto",
    dtype: DtypeName = "auto",
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
    **settings: Any,
) -> RewardModel:
    """Train a LoRA adapter on preferences, and give the fitted reward model, which is loaded from its folder.

    dataset_list: records as ``records`` describes them, such as ``{"query", "chosen_key", "rejected_key"}``, each a
    text or a list of messages. model: what ``train_lora`` calls ``model_name``; None for the device's language model.
    peft_config: PEFT's ``LoraConfig`` or its fields as a dictionary; with ``task_type`` SEQ_CLS a causal language model
    gets a new head. output_dir: the run's folder; the same call again goes on there. say: hears of progress. settings:
    fields of ``FittingConfig``, ``LoraSettings`` and ``PreferenceDataConfig`` (``epochs``, ``batch_size``,
    ``learning_rate``, ``test_share``, ...).

    Raises ConfigError on settings that are unknown or of no use, DataError naming the record at fault, and what
    ``training.train`` raises.
    """
    from searchrl.fitting.records import lists_of, placed_records
    from searchrl.fitting.training import RunFolder, train
    from searchrl.models.loader import ModelLoader
    from searchrl.reward.registry import make_reward

    name = None if model is None else str(model)
    chosen = sort_settings((FittingConfig, LoraSettings, PreferenceDataConfig), settings)
    given = Path("dataset_list")  # not a file: what error messages call it
    kind = TrainLoraConfig if loss == "pairwise" else TrainAdpoLoraConfig
    config = kind(
        output_dir=Path(output_dir),
        data=PreferenceDataConfig(**{**chosen[PreferenceDataConfig], "dataset_list_train": given}),
        lora=LoraSettings(**{"model_name": name, **_lora(peft_config, name, device), **chosen[LoraSettings]}),
        fitting=FittingConfig(**chosen[FittingConfig]),
        dtype=dtype,
        compute=ComputeConfig(device),
        overwrite=overwrite,
    )
    train(config, say, lists_of(placed_records(list(dataset_list), str(given))))
    folder = RunFolder(config.output_dir)
    return make_reward(
        str(folder.merged if config.lora.merge else folder.adapter), None, ModelLoader(device=device, dtype=dtype)
    )


def _lora(peft_config: Any, model: str | None, device: str) -> dict[str, Any]:
    """Settings of ours that say what PEFT's do. Raises ConfigError on those that would be ignored."""
    if peft_config is None:
        return {}
    fields = dict(peft_config) if isinstance(peft_config, Mapping) else peft_config.to_dict()
    plain = _defaults()
    found = {name: fields.pop(name) for name in LORA if fields.get(name) is not None}
    if "target_modules" in found:
        names = found["target_modules"]
        names = [names] if isinstance(names, str) else names
        found["target_modules"] = tuple(sorted(names))
    layers = fields.pop("layers_to_transform", None)
    if layers is not None:
        found["last_layers"] = _last(sorted([layers] if isinstance(layers, int) else layers), model, device)
    task = fields.get("task_type")
    if getattr(task, "value", task) == "SEQ_CLS" and _kind(model, device) == "lm":
        found["new_head"] = True
    for name, value in fields.items():
        if name not in SILENT and (value or None) != (plain.get(name) or None):
            raise ConfigError(f"peft_config {name} {value!r}: is not a setting here; leave it out")
    return found


def _defaults() -> dict[str, Any]:
    from peft import LoraConfig

    plain: Any = LoraConfig()
    return {name: value.value if isinstance(value, Enum) else value for name, value in plain.to_dict().items()}


def _folder(model: str | None, device: str) -> tuple[str, Path]:
    from searchrl.device import choose_device
    from searchrl.models.folders import default_language_model, language_model_folder

    name = model or default_language_model(choose_device(device).device)
    return name, language_model_folder(name)


def _kind(model: str | None, device: str) -> str:
    from searchrl.reward.registry import detect_kind

    return detect_kind(*_folder(model, device))


def _last(layers: Sequence[int], model: str | None, device: str) -> int:
    """How many layers at the end these are."""
    from transformers import AutoConfig

    count = int(AutoConfig.from_pretrained(_folder(model, device)[1]).get_text_config().num_hidden_layers)
    if list(layers) != list(range(count - len(layers), count)):
        raise ConfigError(
            f"peft_config layers_to_transform {list(layers)}: must be the last of the model's {count} layers"
        )
    return len(layers)
