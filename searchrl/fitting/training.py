"""Fit a reward model to preference lists: the work behind ``train_lora`` and ``train_adpo_lora``."""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchrl.config import DtypeName
from searchrl.config_file import differences, to_json
from searchrl.device import DeviceChoice, choose_device, with_dtype
from searchrl.errors import CheckpointError, ConfigError, OutputError
from searchrl.extras import install_command
from searchrl.files import load_json, new_folder, remove_leftovers, sealed, unsealed, write_seal, write_text
from searchrl.fitting.lists import TrainingLists, fingerprint, training_lists
from searchrl.fitting.records import PreferenceList
from searchrl.fitting.settings import TrackingConfig, TrainLoraConfig
from searchrl.models.adapters import merge, name_base
from searchrl.models.folders import default_language_model, language_model_folder
from searchrl.reward.calibrated import Recipe
from searchrl.reward.lm import LMReward
from searchrl.tracking import check_tracker

if TYPE_CHECKING:
    from searchrl.fitting.trainable import TrainableReward
    from searchrl.fitting.trainer import PreferenceTrainer


NOT_COMPARED = ("output_dir", "overwrite", "tracking", "compute", "data")
"""Settings that do not change what is computed, or are told by fingerprints."""


def train(
    config: TrainLoraConfig, say: Callable[[str], None], given: Sequence[PreferenceList] | None = None
) -> dict[str, Any]:
    """Train, or go on; returns what ``metrics.json`` holds. given: lists in the place of ``dataset_list_train``.

    Quality is measured before, during and after, on queries that are not trained on. The same settings and data give
    the same weights, whether or not the run was killed meanwhile. Raises ConfigError, DataError, ModelError,
    CheckpointError (another run is in the folder), OutputError.
    """
    check_installed(config.tracking)
    choice = training_device(config.compute.device, config.dtype)
    folder = RunFolder(config.output_dir)
    folder.check()
    lists = training_lists(config, say, given)
    _check_layers(config, language_model_folder(config.lora.model_name or default_language_model(choice.device)))
    folder.open(config.overwrite)  # now that nothing is missing: this may delete an earlier run
    reward, base = _trainable(config, choice, folder)
    config = _settled(config, reward, choice)
    settings = {name: value for name, value in to_json(config).items() if name not in NOT_COMPARED}
    settings["lora"] = {name: value for name, value in settings["lora"].items() if name not in ("merge", "prompts")}
    told = {"loss": config.loss, "train": fingerprint(lists.train), "test": fingerprint(lists.test)}
    folder.agree({**settings, **told, "model": reward.fingerprint})
    done = folder.finished()
    if done is None:
        from searchrl.fitting.trainer import without_deprecations
        from searchrl.models.folders import quiet_transformers

        with without_deprecations(), quiet_transformers():
            done = _fit(config, folder, reward, lists, say)
    if config.lora.merge and not folder.merged.exists():
        with new_folder(folder.merged) as place:
            merge(folder.adapter, base, place)
            write_seal(place)
    return done


def check_installed(tracking: TrackingConfig) -> None:
    """Raise ConfigError with the install command where the libraries for training, or those asked for, are missing."""
    for package in ("trl", "peft", "accelerate", "datasets"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"training a reward model needs the package {package}: {install_command('train')}")
    check_tracker(tracking.tracker)
    if tracking.wandb_project is not None and importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            f"wandb_project {tracking.wandb_project}: Weights & Biases is not installed: pip install wandb "
            "(TensorBoard's curves are written in any case)"
        )


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

    lora = config.lora
    name, kind = lora.model_name or default_language_model(choice.device), lora.scorer
    if lora.new_head:
        name, kind = str(new_head(name, folder.base, config.fitting.seed)), "head"
    reward = trainable_reward(name, kind, choice, lora.max_key_words, lora.prompts)
    return reward, language_model_folder(name)


def _base_name(config: TrainLoraConfig, folder: RunFolder) -> str:
    """What the adapter calls its base: a preset's or the hub's name, or a folder's whole path."""
    if config.lora.new_head:
        return str(folder.base.absolute())
    name = config.lora.model_name or default_language_model(choose_device(config.compute.device).device)
    return str(Path(name).absolute()) if Path(name).is_dir() else name


def _settled(config: TrainLoraConfig, reward: TrainableReward, choice: DeviceChoice) -> TrainLoraConfig:
    """The same with what depends on model and device decided, so that the run's folder remembers it."""
    from searchrl.fitting.trainer import checkpointed, last_third

    lora, fitting, traits = config.lora, config.fitting, reward.traits
    if lora.last_layers is None:
        is_lm = traits.task == "CAUSAL_LM" or lora.new_head
        few = choice.device == "cpu" and is_lm and not lora.target_modules
        lora = replace(lora, last_layers=last_third(reward.network) if few else 0)
    fitting = replace(
        fitting,
        learning_rate=fitting.learning_rate or traits.learning_rate,
        scale=fitting.scale or traits.scale,
        across_queries=traits.across if fitting.across_queries is None else fitting.across_queries,
        gradient_checkpointing=checkpointed(reward, fitting.gradient_checkpointing, choice.device),
    )
    return replace(config, lora=lora, fitting=fitting)


def _fit(
    config: TrainLoraConfig,
    folder: RunFolder,
    reward: TrainableReward,
    lists: TrainingLists,
    say: Callable[[str], None],
) -> dict[str, Any]:
    checkpoint = folder.last_checkpoint()
    step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    trainer = _trainer(config, folder, reward, lists, step)
    before = None
    if lists.test:
        if not folder.before.exists():  # the fresh adapter changes nothing yet
            quality = trainer.quality()
            write_text(folder.before, json.dumps(sealed(asdict(quality))) + "\n")
            say(f"before: {quality}")
        before = _read_before(folder.before)
    say(f"going on after update {step}" if checkpoint else "training")
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - started
    network: Any = trainer.model
    updates, after = trainer.state.global_step, None
    if lists.test:
        look = trainer.last_look  # not twice: it takes minutes
        after = look[1] if look and look[0] == updates else trainer.quality()
        say(f"after: {after}")
    trainer.check_weights()
    calibration = trainer.calibration(lists.retrieved)
    shutil.rmtree(folder.adapter, ignore_errors=True)
    with new_folder(folder.adapter) as place:  # the head included
        network.save_pretrained(str(place))
        name_base(place, _base_name(config, folder))
        _in_order(place)
        reward.tokenizer.save_pretrained(place)
        if isinstance(reward, LMReward):
            recipe = Recipe(reward.method, reward.max_document_words, calibration)
        else:
            recipe = Recipe("head", None, calibration)
        recipe.write(place)
        write_seal(place)
    during = [e for e in trainer.state.log_history if "eval_accuracy" in e and e["step"] < updates]
    metrics = {
        "before": before,
        "during": during,
        "after": asdict(after) if after else None,
        "updates": updates,
        "lists": len(lists.train),
        "seconds_of_the_last_command": round(seconds, 1),
        "peak_memory_gb": round(_peak_memory(), 2),
        "trainable_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
    }
    write_text(folder.metrics, json.dumps(sealed(metrics), indent=1) + "\n")
    return metrics


def _check_layers(config: TrainLoraConfig, folder: Path) -> None:
    """Refuse more layers than a model has before it is loaded; what its files do not say, loading will."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        layers = int(settings.get("text_config", settings)["num_hidden_layers"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    if (config.lora.last_layers or 0) > layers:
        raise ConfigError(f"last_layers {config.lora.last_layers}: the model has {layers}")


def _read_before(path: Path) -> dict[str, Any]:
    try:
        return unsealed(load_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); remove the run's folder, or use `overwrite`") from error


def _in_order(folder: Path) -> None:
    """Give an adapter's files the same bytes each time: PEFT writes sets, in whatever order they have, and a card
    that says nothing yet.
    """
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    for name in ("target_modules", "modules_to_save", "layers_to_transform"):
        if isinstance(settings.get(name), list):
            settings[name] = sorted(settings[name])
    write_text(path, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def _trainer(
    config: TrainLoraConfig, folder: RunFolder, reward: TrainableReward, lists: TrainingLists, step: int
) -> PreferenceTrainer:
    from trl.trainer.reward_config import RewardConfig

    from searchrl.fitting.trainer import PreferenceTrainer, attach, trackers

    fitting = config.fitting
    assert fitting.learning_rate is not None, "decided by _settled"
    choice = training_device(config.compute.device, config.dtype)
    arguments = RewardConfig(
        output_dir=str(folder.path),
        use_cpu=choice.device == "cpu",
        bf16=choice.dtype == "bfloat16",
        fp16=choice.dtype == "float16" and choice.device != "mps",
        per_device_train_batch_size=1,  # a row is a batch: see PreferenceTrainer
        train_sampling_strategy="sequential",
        gradient_accumulation_steps=fitting.gradient_accumulation_steps,
        num_train_epochs=1,  # the rows hold them all
        learning_rate=fitting.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=fitting.warmup_ratio,
        weight_decay=fitting.weight_decay,
        max_grad_norm=fitting.max_grad_norm,
        optim="adamw_torch",
        gradient_checkpointing=False,  # done by ``attach``: TRL would have gradients below the adapter, too
        disable_dropout=False,  # the base's is off already; this would also switch off the adapter's
        eval_strategy="steps" if lists.test else "no",
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
    model = attach(reward, config.lora, fitting.seed, bool(fitting.gradient_checkpointing))
    watching = trackers(config.tracking, folder.path, folder.curves, step)
    return PreferenceTrainer(reward, model, config.loss, fitting, lists.train, lists.test, arguments, watching)


def _peak_memory() -> float:
    """GB: of the GPU's memory where there is one in use, else of this process."""
    import resource
    import sys

    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


class RunFolder:
    """A run's folder, and what lies in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "training.json"
        """What was asked for, and fingerprints of data and model."""
        self.base = path / "base"
        """The model that got a new head."""
        self.before = path / "before.json"
        """Quality before training."""
        self.curves = path / "tensorboard"
        self.adapter = path / "adapter"
        """The trained adapter, head included."""
        self.merged = path / "merged"
        """The model with the adapter worked in."""
        self.metrics = path / "metrics.json"
        """Quality before, during and after, time and memory; written last."""

    def check(self) -> None:
        """Raise OutputError where the folder is something else than a run's. Changes nothing."""
        try:
            if self.path.exists() and not self.path.is_dir():
                raise OutputError(f"{self.path}: is a file; give a folder with output_dir")
            known = self.settings.exists() or self.base.exists()
            if self.path.is_dir() and any(self.path.iterdir()) and not known:
                raise OutputError(f"{self.path}: is not empty and not a training run; give another output_dir")
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be read ({error.strerror or error})") from error

    def open(self, overwrite: bool) -> None:
        """Make the folder, or empty it of another run. Raises OutputError where that cannot be."""
        try:
            if overwrite and self.settings.exists():
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror or error})") from error

    def agree(self, wanted: Mapping[str, Any]) -> None:
        """Note what is asked for, or raise CheckpointError where the run here was asked for something else."""
        plain = json.loads(json.dumps(wanted))
        if not self.settings.exists():
            write_text(self.settings, json.dumps(sealed(plain), indent=1, ensure_ascii=False) + "\n")
            return
        changed = differences(_read(self.settings), plain)
        if changed:
            raise CheckpointError(
                f"{self.path}: holds another run: {'; '.join(changed)}; give another output_dir, or set overwrite"
            )

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that was written whole; what a kill left of others is removed."""
        whole = []
        for folder in self.path.glob("checkpoint-*"):
            try:
                state = load_json((folder / "trainer_state.json").read_text(encoding="utf-8"))  # written last
                whole.append((int(state["global_step"]), folder))
            except (OSError, ValueError, KeyError, TypeError):
                shutil.rmtree(folder, ignore_errors=True)
        return max(whole)[1] if whole else None

    def finished(self) -> dict[str, Any] | None:
        """What ``metrics.json`` says, where the run came to its end."""
        return _read(self.metrics) if self.metrics.exists() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return unsealed(load_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); set overwrite, or another output_dir") from error
