"""Fit a reward model to preference lists: the work behind ``train_lora`` and ``train_adpo_lora``."""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchrl.config import DtypeName
from searchrl.config_file import to_json
from searchrl.device import DeviceChoice, choose_device, with_dtype
from searchrl.errors import ConfigError
from searchrl.files import new_folder, write_text
from searchrl.fitting.adapter import attach, last_third, load, merge, without_deprecations
from searchrl.fitting.preference_lists import PreferenceList, fingerprint
from searchrl.fitting.run_folder import RunFolder
from searchrl.fitting.tracking import check_tracking, trackers
from searchrl.fitting.training_lists import training_lists
from searchrl.fitting.training_settings import TrainLoraConfig

if TYPE_CHECKING:
    from searchrl.fitting.trainable import TrainableReward
    from searchrl.fitting.trainer import PreferenceTrainer, TrainingData

NOT_COMPARED = ("output_dir", "overwrite", "tracking", "compute", "data")
"""Settings that do not change what is computed, or are told by fingerprints."""

INSTALL = "uv pip install 'searchrl[train]'"


def train(config: TrainLoraConfig, say: Callable[[str], None]) -> dict[str, Any]:
    """Train, or go on; returns what ``metrics.json`` holds.

    Quality is measured before, during and after, on queries that are not trained on. The same settings and data give
    the same weights, whether or not the run was killed meanwhile. Raises ConfigError, DataError, ModelError,
    CheckpointError (another run is in the folder), OutputError.
    """
    from searchrl.models.folders import default_language_model, language_model_folder
    from searchrl.models.loading import quiet_transformers

    check_installed()
    check_tracking(config.tracking)
    choice = training_device(config.compute.device, config.dtype)
    folder = RunFolder(config.output_dir)
    folder.check()
    train_lists, test_lists = training_lists(config, say)
    language_model_folder(config.lora.model_name or default_language_model(choice.device))
    folder.open(config.overwrite)  # now that nothing is missing: this may delete an earlier run
    reward, _ = _trainable(config, choice, folder)
    config = _settled(config, reward, choice)
    folder.agree(_settings(config, train_lists, test_lists, reward))
    done = folder.finished()
    if done is None:
        with without_deprecations(), quiet_transformers():
            done = _fit(config, folder, reward, train_lists, test_lists, say)
    del reward  # its network is changed, and takes as much memory as the next
    if config.lora.merge and not folder.merged.exists():
        _merge(*_trainable(config, replace(choice, dtype="float32"), folder), folder)
    return done


def check_installed() -> None:
    """Raise ConfigError with the install command where the libraries for training are missing."""
    for package in ("trl", "peft", "accelerate", "datasets"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"training a reward model needs the package {package}: {INSTALL}")


def training_device(name: str, dtype: DtypeName) -> DeviceChoice:
    """Where to train, and in which format. Raises ConfigError on a GPU other than the first, DeviceError as usual."""
    choice = choose_device(name)
    if ":" in choice.device:
        raise ConfigError(
            f"device {name}: training takes the first GPU it sees; choose with CUDA_VISIBLE_DEVICES="
            f"{choice.device.partition(':')[2]} and device cuda"
        )
    return with_dtype(choice, dtype, has_int8=False)


def _trainable(config: TrainLoraConfig, choice: DeviceChoice, folder: RunFolder) -> tuple[TrainableReward, Path]:
    """The reward model, untrained, and the folder its model was read from."""
    from searchrl.fitting.trainable import new_head, trainable_reward
    from searchrl.models.folders import default_language_model, language_model_folder

    lora = config.lora
    name, kind = lora.model_name or default_language_model(choice.device), lora.scorer
    if lora.new_head:
        name, kind = str(new_head(name, choice, folder.base, config.fitting.seed)), "head"
    reward = trainable_reward(name, kind, choice, lora.max_key_words, lora.prompts)
    return reward, language_model_folder(name)


def _settled(config: TrainLoraConfig, reward: TrainableReward, choice: DeviceChoice) -> TrainLoraConfig:
    """The same with what depends on model and device decided, so that the run's folder remembers it."""
    lora, fitting = config.lora, config.fitting
    if lora.last_layers is None:
        few = choice.device == "cpu" and reward.task == "CAUSAL_LM" and not lora.target_modules
        lora = replace(lora, last_layers=last_third(reward.network) if few else 0)
    fitting = replace(
        fitting,
        learning_rate=fitting.learning_rate or reward.learning_rate,
        scale=fitting.scale or reward.scale,
        across_queries=reward.across if fitting.across_queries is None else fitting.across_queries,
    )
    return replace(config, lora=lora, fitting=fitting)


def _settings(
    config: TrainLoraConfig,
    train_lists: Sequence[PreferenceList],
    test_lists: Sequence[PreferenceList],
    reward: TrainableReward,
) -> dict[str, Any]:
    """What decides the outcome, as JSON values."""
    settings = {name: value for name, value in to_json(config).items() if name not in NOT_COMPARED}
    settings["lora"] = {name: value for name, value in settings["lora"].items() if name not in ("merge", "prompts")}
    told = {"loss": config.loss, "train": fingerprint(train_lists), "test": fingerprint(test_lists)}
    return {**settings, **told, "model": reward.fingerprint}


def _fit(
    config: TrainLoraConfig,
    folder: RunFolder,
    reward: TrainableReward,
    train_lists: Sequence[PreferenceList],
    test_lists: Sequence[PreferenceList],
    say: Callable[[str], None],
) -> dict[str, Any]:
    checkpoint = folder.last_checkpoint()
    step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    data = _encode(config, reward, train_lists)
    trainer = _trainer(
        config,
        folder,
        reward,
        data,
        test_lists,
        trackers_of=lambda: trackers(config.tracking, folder.path, folder.curves, step),
    )
    before = None
    if test_lists:
        if not folder.before.exists():  # the fresh adapter changes nothing yet
            quality = trainer.quality()
            write_text(folder.before, json.dumps(asdict(quality)) + "\n")
            say(f"before: {quality}")
        before = json.loads(folder.before.read_text(encoding="utf-8"))
    say(f"going on after update {step}" if checkpoint else "training")
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - started
    network: Any = trainer.model
    updates, look = trainer.state.global_step, trainer.last_look
    after = look[1] if look and look[0] == updates else None  # not twice: it takes minutes
    if test_lists:
        after = after or trainer.quality()
        say(f"after: {after}")
    _save_adapter(trainer, reward, folder)
    during = [e for e in trainer.state.log_history if "eval_accuracy" in e and e["step"] < updates]
    metrics = {
        "before": before,
        "during": during,
        "after": asdict(after) if after else None,
        "updates": updates,
        "lists": len(train_lists),
        "seconds_of_the_last_command": round(seconds, 1),
        "peak_memory_gb": round(_peak_memory(), 2),
        "trainable_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
    }
    write_text(folder.metrics, json.dumps(metrics, indent=1) + "\n")
    return metrics


def _encode(config: TrainLoraConfig, reward: TrainableReward, lists: Sequence[PreferenceList]) -> TrainingData:
    from searchrl.fitting.trainer import TrainingData, training_order

    encoded = [
        [reward.encode(query, document) for query, document in zip(one.queries, one.documents, strict=True)]
        for one in lists
    ]
    lengths = [max(map(reward.length, pairs)) for pairs in encoded]
    fitting = config.fitting
    return TrainingData(lists, encoded, training_order(lengths, fitting.batch_size, fitting.epochs, fitting.seed))


def _trainer(
    config: TrainLoraConfig,
    folder: RunFolder,
    reward: TrainableReward,
    data: TrainingData,
    test_lists: Sequence[PreferenceList],
    trackers_of: Callable[[], list[Any]],
) -> PreferenceTrainer:
    from trl.trainer.reward_config import RewardConfig

    from searchrl.fitting.trainer import PreferenceTrainer

    fitting = config.fitting
    rate, scale = fitting.learning_rate, fitting.scale
    assert rate is not None, "decided by _settled"
    assert scale is not None
    choice = training_device(config.compute.device, config.dtype)
    model = attach(reward, config.lora, fitting.seed)
    arguments = RewardConfig(
        output_dir=str(folder.path),
        use_cpu=choice.device == "cpu",
        bf16=choice.dtype == "bfloat16",
        fp16=choice.dtype == "float16" and choice.device != "mps",
        per_device_train_batch_size=1,  # a row is a batch: see TrainingData
        train_sampling_strategy="sequential",
        gradient_accumulation_steps=fitting.gradient_accumulation_steps,
        num_train_epochs=1,  # the rows hold them all
        learning_rate=rate,
        lr_scheduler_type="linear",
        warmup_steps=fitting.warmup_ratio,
        weight_decay=fitting.weight_decay,
        max_grad_norm=fitting.max_grad_norm,
        optim="adamw_torch",
        gradient_checkpointing=fitting.gradient_checkpointing,
        disable_dropout=False,  # the base's is off already; this would also switch off the adapter's
        eval_strategy="steps" if test_lists else "no",
        eval_steps=fitting.evaluation_steps,
        save_strategy="steps",
        save_steps=fitting.save_steps,
        save_total_limit=2,
        logging_steps=fitting.logging_steps,
        logging_first_step=True,
        seed=fitting.seed,
        report_to="none",  # the trackers are handed over,
        disable_tqdm=True,  # and so is the bar
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        max_length=None,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # the trainer does not spread one process over several GPUs
    across = bool(fitting.across_queries)
    return PreferenceTrainer(reward, model, config.loss, scale, across, data, test_lists, arguments, trackers_of())


def _save_adapter(trainer: PreferenceTrainer, reward: TrainableReward, folder: RunFolder) -> None:
    """Write the adapter, its head and its tokenizer, whole or not at all."""

    network: Any = trainer.model
    shutil.rmtree(folder.adapter, ignore_errors=True)
    with new_folder(folder.adapter) as place:
        network.save_pretrained(str(place))
        reward.tokenizer.save_pretrained(place)


def _merge(reward: TrainableReward, base: Path, folder: RunFolder) -> None:
    model = load(reward, folder.adapter)
    with new_folder(folder.merged) as place:
        merge(reward, place, model, base)


def _peak_memory() -> float:
    """GB: of the GPU's memory where there is one in use, else of this process."""
    import resource
    import sys

    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
