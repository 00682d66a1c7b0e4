"""Progress of long work: a bar on a terminal, and elsewhere, in a log say, a line every half minute."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

SECONDS = 30.0
"""Between two lines where there is no terminal; work that is done before says nothing."""


def progress_bar(total: int, title: str, unit: str, *, show: bool = True, **more: Any) -> Any:
    """What tqdm gives, open: a context manager with ``update`` and ``close``. more: further arguments for tqdm."""
    from tqdm import tqdm

    if not show:
        return tqdm(total=total, desc=title, unit=unit, disable=True, **more)
    if sys.stderr.isatty():
        return tqdm(total=total, desc=title, unit=unit, **more)
    rest = {"leave": True, "mininterval": SECONDS, "maxinterval": SECONDS, "delay": SECONDS, "miniters": 1}
    return _lines()(total=total, desc=title, unit=unit, **{**more, **rest})


def _lines() -> Any:
    from tqdm import tqdm

    base: Any = tqdm  # its stubs come and go

    class Lines(base):  # type: ignore[misc]
        """Every state on a line of its own."""

        disable: bool

        @staticmethod
        def status_printer(file: Any) -> Callable[[str], None]:
            def write(text: str) -> None:
                if text.strip():
                    file.write(f"{text.strip()}\n")
                    file.flush()

            return write

        def moveto(self, n: int) -> None:
            """There is nowhere to move to."""

        def clear(self, nolock: bool = False) -> None:
            """What is written stays."""

        def close(self) -> None:
            """Write the last state, if any was written before."""
            if self.disable:
                return
            if self.last_print_t >= self.start_t + self.delay:
                self.display()
            self.disable = True
            self._decr_instances(self)

    return Lines
