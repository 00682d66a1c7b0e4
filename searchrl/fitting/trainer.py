"""LoRA (Hu et al. 2021) on a reward model by PEFT, and its training on preference lists of any length by TRL."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PrinterCallback, TrainerCallback, integrations
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.utils import disable_dropout_in_model

from searchrl.device import rng
from searchrl.errors import ConfigError, DivergedError, ModelError, reason
from searchrl.fitting.lists import Judged, PreferenceQuality, list_losses, preference_quality
from searchrl.fitting.records import PreferenceList
from searchrl.fitting.settings import FittingConfig, LoraSettings, LossName, TrackingConfig
from searchrl.fitting.trainable import TrainableReward
from searchrl.progress import progress_bar
from searchrl.reward.calibrated import Calibration
from searchrl.tracking import Tracker, open_tracker

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""As the Llama family and its kin call them; a network without any of these gets LoRA on every linear layer."""


def attach(reward: TrainableReward, settings: LoraSettings, seed: int, checkpointing: bool = False) -> Any:
    """Put a fresh adapter into the reward model's network and return PEFT's model around it; only the adapter, and a
    reward head, are trainable, and these are float32 whatever the base's format.

    The base's own dropout is switched off, as TRL does: the same pair must score the same. checkpointing: see
    ``FittingConfig.gradient_checkpointing``. Raises ConfigError where no module has one of the names, or there are
    fewer layers.
    """
    from peft import LoraConfig, get_peft_model

    disable_dropout_in_model(reward.network)
    targets = _targets(reward.network, settings.target_modules)
    # TASK_TYPE SEQ_CLS also saves the head, which a plain LoraConfig would leave out of the adapter.
    config = LoraConfig(
        task_type=reward.traits.task,
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
            model: Any = get_peft_model(network, config)
    except ValueError as error:
        raise ConfigError(f"target_modules {' '.join(settings.target_modules)}: {error}") from error
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # PEFT leaves a head in the base's format
    if checkpointing:
        with without_deprecations():
            network.gradient_checkpointing_enable({"use_reentrant": False})
        network.disable_input_require_grads()  # else layers below the adapter would have gradients, too
    return model


def checkpointed(reward: TrainableReward, wanted: bool | None, device: str) -> bool:
    """Whether activations are computed twice. Raises ConfigError where that is wanted and the network cannot."""
    network: Any = reward.network
    able = bool(getattr(network, "supports_gradient_checkpointing", False))
    if wanted and not able:
        raise ConfigError(f"gradient_checkpointing: not possible with {type(network).__name__}; leave it out")
    return able and reward.traits.task == "SEQ_CLS" and device == "cpu" if wanted is None else wanted


def load(reward: TrainableReward, folder: Path) -> Any:
    """Put a saved adapter, head included, into a reward model's network. Raises ModelError where it does not fit."""
    from peft import PeftModel

    network: Any = reward.network
    try:
        with without_deprecations():
            return PeftModel.from_pretrained(network, str(folder))
    except Exception as error:  # a foreign or damaged folder fails in as many ways as there are files
        raise ModelError(f"{folder} is not an adapter for this model ({reason(error)})") from error


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


CHUNK_BATCHES = 50
"""Lists are sorted by length within chunks of so many batches: little padding, and still another order every epoch."""


def training_order(lengths: Sequence[int], batch_size: int, epochs: float, seed: int) -> list[list[int]]:
    """Batches of places in ``lengths``, all epochs one after another; a last part of an epoch for its fraction.

    Laid out before training begins, so that a run that was killed goes on with the batch it was in. Shuffled, then
    batched with others of about their length, then the batches shuffled; by ``seed`` and epoch alone.
    """
    order: list[list[int]] = []
    whole, part = int(epochs), epochs - int(epochs)
    size = CHUNK_BATCHES * batch_size
    for epoch in range(whole + (part > 0)):
        random = rng(seed, "training order", epoch)
        shuffled = random.permutation(len(lengths)).tolist()
        batches: list[list[int]] = []
        for first in range(0, len(shuffled), size):
            chunk = sorted(shuffled[first : first + size], key=lambda place: lengths[place])
            batches += [chunk[start : start + batch_size] for start in range(0, len(chunk), batch_size)]
        batches = [batches[i] for i in random.permutation(len(batches))]
        order += batches if epoch < whole else batches[: max(1, round(part * len(batches)))]
    return order


class PreferenceTrainer(RewardTrainer):
    """Trains ``model`` (PEFT's, around ``reward.network``) on lists; ``evaluate`` measures it on those held out.

    fitting: with its ``scale`` decided.
    """

    def __init__(
        self,
        reward: TrainableReward,
        model: Any,
        loss: LossName,
        fitting: FittingConfig,
        lists: Sequence[PreferenceList],
        test: Sequence[PreferenceList],
        args: RewardConfig,
        callbacks: Sequence[Any],
    ) -> None:
        assert fitting.scale is not None
        self._reward, self._loss, self._test = reward, loss, test
        self._scale, self._across = fitting.scale, bool(fitting.across_queries)
        pairs = [[reward.encode(*member) for member in one.members] for one in lists]
        lengths = [max(map(reward.length, own)) for own in pairs]
        order = training_order(lengths, fitting.batch_size, fitting.epochs, fitting.seed)
        # A row a batch, so that the library neither shuffles nor batches anew, and skips rightly when it resumes.
        rows = Dataset.from_dict({"members": order})

        def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
            members = [place for row in rows for place in row["members"]]
            return {
                "encoded": [pair for place in members for pair in pairs[place]],
                "levels": [torch.tensor(lists[place].levels) for place in members],
            }

        network: Any = reward.network
        labels = network.config.num_labels
        network.config.num_labels = 1  # what TRL asks of a model; a causal language model has the same one score
        super().__init__(
            model=model,
            args=args,
            data_collator=collate,
            train_dataset=rows,
            eval_dataset=rows if test else None,
            processing_class=reward.tokenizer,
            callbacks=list(callbacks),
        )
        network.config.num_labels = labels
        self.remove_callback(PrinterCallback)
        self.add_callback(_Gradients(self))
        self.last_look: tuple[int, PreferenceQuality] | None = None
        """The update after which the held-out lists were looked at last, and what was seen."""

    def training_step(self, *arguments: Any, **settings: Any) -> Tensor:
        """Loss and gradients of a batch. Raises DivergedError where the loss is not finite."""
        loss: Tensor = super().training_step(*arguments, **settings)  # type: ignore[no-untyped-call]
        self._check("loss", [loss])
        return loss

    def check_gradients(self) -> None:
        """Raise DivergedError where one is not finite; with float16, too large ones are skipped as they should be."""
        if not self.args.fp16:
            self._check("gradient", [p.grad for p in self._trained() if p.grad is not None])

    def check_weights(self) -> None:
        """Raise DivergedError where one is not finite, before anything is measured with it or written."""
        self._check("new weight", self._trained())

    def _trained(self) -> list[Tensor]:
        network: Any = self.model
        return [parameter for parameter in network.parameters() if parameter.requires_grad]

    def _check(self, what: str, numbers: Sequence[Tensor]) -> None:
        if all(bool(part.detach().isfinite().all()) for part in numbers):
            return
        folder = Path(str(self.args.output_dir))
        kept = "its checkpoints until then stay" if list(folder.glob("checkpoint-*")) else "there is no checkpoint yet"
        finer = ", or use `dtype` float32" if self.args.fp16 else ""
        raise DivergedError(
            f"training diverged at update {self.state.global_step + 1}: a {what} is not finite; lower "
            f"`learning_rate`{finer}; {kept} in {folder}"
        )

    def _save_checkpoint(self, *arguments: Any, **settings: Any) -> None:
        self.check_weights()
        super()._save_checkpoint(*arguments, **settings)  # type: ignore[no-untyped-call]

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean loss of a batch's lists; accuracy and margin over its pairs go to the log."""
        levels = [level.to(self.args.device) for level in inputs["levels"]]
        with self._format():
            scores = self._reward.forward(model, inputs["encoded"])
        self._note(scores.detach(), levels)
        loss = list_losses(self._loss, self._scale * scores, levels, self._across)
        return (loss, {"scores": scores}) if return_outputs else loss

    def _format(self) -> torch.autocast:
        """Lets the base compute in its own format beside an adapter in float32."""
        network: Any = self.model
        base = next(parameter for parameter in network.parameters() if not parameter.requires_grad)
        half = base.dtype in (torch.bfloat16, torch.float16)
        return torch.autocast(base.device.type, base.dtype if half else None, enabled=half)

    def _note(self, scores: Tensor, levels: Sequence[Tensor]) -> None:
        gaps = []
        for part, level in zip(torch.split(scores, [len(x) for x in levels]), levels, strict=True):
            gaps.append((part[:, None] - part[None, :])[level[:, None] > level[None, :]])
        together = torch.cat(gaps)
        metrics = self._metrics["train"]
        metrics["accuracy"].append((together > 0).float().mean().item())
        metrics["margin"].append(together.mean().item())

    def quality(self) -> PreferenceQuality:
        """How well the model keeps the preferences held out, in the numeric format it is trained in."""
        with self._scoring():
            return preference_quality(self._reward, self._test)

    def calibration(self, judged: Sequence[Judged]) -> Calibration | None:
        """The map from the model's scores to probabilities of relevance; None where no pairs tell it."""
        queries, documents = [query for query, _, _ in judged], [document for _, document, _ in judged]
        with self._scoring():
            return Calibration.fit(self._reward.score(queries, documents), [relevant for _, _, relevant in judged])

    @contextmanager
    def _scoring(self) -> Iterator[None]:
        network: Any = self.model
        training = network.training
        network.eval()
        with self._format():
            yield
        network.train(training)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Accuracy and AUC on the held-out lists by the reward model's own ``score``, logged."""
        quality = self.quality()
        self.last_look = (self.state.global_step, quality)
        metrics = {f"eval_{name}": x for name, x in asdict(quality).items() if name not in ("lists", "pairs")}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _send_telemetry(self) -> None:
        """Nobody is told what is trained here."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The run's own files say what was done."""


class _Gradients(TrainerCallback):
    """Looks at gradients before they are applied."""

    def __init__(self, trainer: PreferenceTrainer) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._trainer.check_gradients()


def trackers(config: TrackingConfig, folder: Path, curves: Path, step: int) -> list[Any]:
    """Callbacks for the trainer. curves: TensorBoard's folder. step: the update that a resumed run begins after."""
    from torch.utils.tensorboard import SummaryWriter

    library: Any = integrations  # whose types say little
    writer = SummaryWriter(str(curves), purge_step=step + 1 if step else None)
    callbacks = [library.TensorBoardCallback(writer), _Bar()]
    if config.tracker not in ("tensorboard", "none"):
        callbacks.append(_Told(open_tracker(config.tracker, folder, folder.resolve().name, step)))
    if config.wandb_project is not None:
        import wandb

        wandb.init(project=config.wandb_project, name=config.wandb_run_name, dir=str(folder), mode=config.wandb_mode)
        callbacks += [library.WandbCallback(), _Finish(wandb)]
    return callbacks


class _Told(TrainerCallback):
    """Tells a tracker what was logged."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        numbers = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        self._tracker.log(numbers, state.global_step)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._tracker.close()


class _Finish(TrainerCallback):
    """Has Weights & Biases write out the last of its curves: it would do so when Python ends."""

    def __init__(self, wandb: Any) -> None:
        self._wandb = wandb

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._wandb.finish()


class _Bar(TrainerCallback):
    """Shows how far training is, and what was logged last."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar = progress_bar(state.max_steps, "train", "update", initial=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        shown = {name: f"{logs[name]:.3f}" for name in ("loss", "accuracy", "eval_accuracy") if name in (logs or {})}
        if shown:
            self._bar.set_postfix(shown)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.close()
