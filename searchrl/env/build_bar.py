"""A progress bar for building a graph: one for each stage, with items/s and the time left."""

from __future__ import annotations

from types import TracebackType
from typing import Any


class BuildBar:
    """Shows what ``obtain_graph`` reports; nothing is shown for a graph that is only loaded.

    What a killed build had finished stands in the bar from the beginning and does not count as speed.
    """

    def __init__(self, title: str, show: bool = True) -> None:
        self._title = title
        self._show = show
        self._bar: Any = None
        self._stage = ""

    def __call__(self, stage: str, unit: str, done: int, total: int) -> None:
        """``done`` of ``total`` units of a stage are finished; the first call of a stage comes before its work."""
        from tqdm import tqdm

        if stage != self._stage:
            self._close()
            self._stage = stage
            title = f"{self._title}: {stage}"
            self._bar = tqdm(desc=title, unit=unit, initial=done, total=total, disable=not self._show, leave=False)
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> BuildBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
