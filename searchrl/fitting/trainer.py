"""TRL's reward trainer over preference lists of any length, scored by any ``TrainableReward``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PrinterCallback
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from searchrl.device import rng
from searchrl.fitting.losses import LossName, list_losses
from searchrl.fitting.preference_lists import PreferenceList
from searchrl.fitting.quality import PreferenceQuality, preference_quality
from searchrl.fitting.trainable import TrainableReward

CHUNK_BATCHES = 50
"""Lists are sorted by length within chunks of so many batches: little padding, and still another order every epoch."""


@dataclass(frozen=True)
class TrainingData:
    """Preference lists, encoded once, in the order in which training meets them."""

    lists: Sequence[PreferenceList]
    encoded: Sequence[Sequence[Any]]
    """The pairs of each list as ``TrainableReward.encode`` gives them."""
    order: Sequence[Sequence[int]]
    """Batches of places in ``lists``."""

    def rows(self) -> Dataset:
        """A row a batch, so that the library neither shuffles nor batches anew, and skips rightly when it resumes."""
        return Dataset.from_dict({"members": [list(batch) for batch in self.order]})

    def collate(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The pairs and levels of the lists of one row."""
        members = [place for row in rows for place in row["members"]]
        return {
            "encoded": [pair for place in members for pair in self.encoded[place]],
            "levels": [torch.tensor(self.lists[place].levels) for place in members],
        }


def training_order(lengths: Sequence[int], batch_size: int, epochs: float, seed: int) -> list[list[int]]:
    """Batches of places in ``lengths``, all epochs one after another; a last part of an epoch for its fraction.

    Laid out before training begins, so that a run that was killed goes on with the batch it was in. Shuffled, then
    batched with others of about their length, then the batches shuffled; by ``seed`` and epoch alone.
    """
    order: list[list[int]] = []
    whole, part = int(epochs), epochs - int(epochs)
    for epoch in range(whole + (part > 0)):
        random = rng(seed, "training order", epoch)
        shuffled = random.permutation(len(lengths)).tolist()
        size = CHUNK_BATCHES * batch_size
        chunks = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
        batches = []
        for chunk in chunks:
            chunk.sort(key=lambda place: lengths[place])
            batches += [chunk[start : start + batch_size] for start in range(0, len(chunk), batch_size)]
        batches = [batches[i] for i in random.permutation(len(batches))]
        order += batches if epoch < whole else batches[: max(1, round(part * len(batches)))]
    return order


class PreferenceTrainer(RewardTrainer):
    """Trains ``model`` (PEFT's, around ``reward.network``) on lists; ``evaluate`` measures it on those held out."""

    def __init__(
        self,
        reward: TrainableReward,
        model: Any,
        loss: LossName,
        scale: float,
        across: bool,
        data: TrainingData,
        test: Sequence[PreferenceList],
        args: RewardConfig,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self._reward, self._loss, self._scale, self._across, self._test = reward, loss, scale, across, test
        network: Any = reward.network
        labels = network.config.num_labels
        network.config.num_labels = 1  # what TRL asks of a model; a causal language model has the same one score
        rows = data.rows()
        super().__init__(
            model=model,
            args=args,
            data_collator=data.collate,
            train_dataset=rows,
            eval_dataset=rows if test else None,
            processing_class=reward.tokenizer,
            callbacks=list(callbacks),
        )
        network.config.num_labels = labels
        self.remove_callback(PrinterCallback)
        self.last_look: tuple[int, PreferenceQuality] | None = None
        """The update after which the held-out lists were looked at last, and what was seen."""

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
        network: Any = self.model
        training = network.training
        network.eval()
        with self._format():
            quality = preference_quality(self._reward, self._test)
        network.train(training)
        return quality

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Accuracy and AUC on the held-out lists by the reward model's own ``score``, logged."""
        quality = self.quality()
        self.last_look = (self.state.global_step, quality)
        metrics = quality.as_metrics()
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _send_telemetry(self) -> None:
        """Nobody is told what is trained here."""

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The run's own files say what was done."""
