"""What listens to an experiment: the functions themselves print nothing, and training writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from searchrl.agent.checkpoint import PolicyCheckpoint
    from searchrl.agent.trainer import Progress, Trainer
    from searchrl.experiment.parts import Models
    from searchrl.experiment.prepare import Collection, PreparedCollection
    from searchrl.experiment.recorder import Recorder


class Callback:
    """Hears of training; every method may be left out. Raise from ``on_update`` to stop."""

    def on_start(self, trainer: Trainer, identity: PolicyCheckpoint) -> None:
        """Before the first update. ``identity``: a checkpoint that lacks only the policy of the moment."""

    def on_update(self, progress: Progress) -> None:
        """After each update."""

    def on_end(self) -> None:
        """After the last update."""

    def close(self) -> None:
        """However training ended."""


class Listener:
    """Hears of what comes before and beside training; every method may be left out."""

    show_progress = False
    """Whether long steps show a bar."""

    def on_models(self, models: Models) -> None:
        """The models are there."""

    def on_collection(self, collection: Collection) -> None:
        """A collection has been read."""

    def on_prepared(self, part: PreparedCollection) -> None:
        """A collection's search graphs are there."""

    def say(self, text: str) -> None:
        """Something for people."""

    def callbacks(self, recorder: Recorder) -> Sequence[Callback]:
        """What else listens to a training run that ``recorder`` writes down."""
        return ()
