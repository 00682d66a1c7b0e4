"""Where training's curves go: a bar, TensorBoard, and Weights & Biases where asked for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from searchrl.errors import ConfigError
from searchrl.fitting.training_settings import TrackingConfig


def check_tracking(config: TrackingConfig) -> None:
    """Raise ConfigError where Weights & Biases was asked for and is not installed."""
    if config.wandb_project is not None and importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            f"wandb_project {config.wandb_project}: Weights & Biases is not installed: pip install wandb "
            "(TensorBoard's curves are written in any case)"
        )


def trackers(config: TrackingConfig, folder: Path, curves: Path, step: int) -> list[Any]:
    """Callbacks for the trainer. curves: TensorBoard's folder. step: the update that a resumed run begins after."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers import integrations

    library: Any = integrations  # whose types say little
    writer = SummaryWriter(str(curves), purge_step=step + 1 if step else None)
    callbacks = [library.TensorBoardCallback(writer), _bar()]
    if config.wandb_project is not None:
        import wandb

        wandb.init(project=config.wandb_project, name=config.wandb_run_name, dir=str(folder), mode=config.wandb_mode)
        callbacks += [library.WandbCallback(), _finishing(wandb)]
    return callbacks


def _finishing(wandb: Any) -> Any:
    """A callback that has Weights & Biases write out the last of its curves: it would do so when Python ends."""
    from transformers import TrainerCallback

    class Finish(TrainerCallback):
        def on_train_end(self, *_: Any, **__: Any) -> None:
            wandb.finish()

    return Finish()


def _bar() -> Any:
    """A callback that shows how far training is, and what was logged last."""
    from tqdm import tqdm
    from transformers import TrainerCallback

    class Bar(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="train", unit="update")

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._bar.update(state.global_step - self._bar.n)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            shown = {
                name: f"{logs[name]:.3f}" for name in ("loss", "accuracy", "eval_accuracy") if name in (logs or {})
            }
            if shown:
                self._bar.set_postfix(shown)

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._bar.close()

    return Bar()
