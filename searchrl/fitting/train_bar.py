"""A bar under training: updates, loss and accuracy."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback


class TrainBar(TrainerCallback):
    """Shows how far a trainer is, and what it logged last."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar where a resumed run stands."""
        self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="train", unit="update")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move it on."""
        self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Name the newest values."""
        shown = {name: f"{logs[name]:.3f}" for name in ("loss", "accuracy", "eval_accuracy") if name in (logs or {})}
        if shown:
            self._bar.set_postfix(shown)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close it."""
        self._bar.close()
