"""One thread for whatever blocks, so that the event loop stays free and a model is never asked twice at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from searchrl.errors import ConfigError

T = TypeVar("T")


class Worker:
    """Runs one piece of work after the other, in the order they come."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="searchrl")
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """Do ``work`` in the thread. Who is cancelled while waiting leaves; work that has begun is finished.

        Raises what ``work`` raises, and ConfigError after ``close``.
        """
        if self._closed:
            raise ConfigError("this search is closed: make a new one")
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def afterwards(self, work: Callable[[], object]) -> None:
        """Do ``work`` once all is done that came before; nobody waits for it."""
        if self._closed:
            work()
        else:
            self._executor.submit(work)

    def close(self) -> None:
        """Finish all that came before, then end the thread."""
        self._closed = True
        self._executor.shutdown(wait=True)
