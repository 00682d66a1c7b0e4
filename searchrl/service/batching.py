"""Work of all requests through one thread, in batches: while the models are busy, what arrives joins the next batch.

Nothing waits for a batch to fill. A request alone is served at once; under load batches grow by themselves. One thread,
because concurrent calls of a model fight for the same cores (and abort on mps).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)
AnyResult = TypeVar("AnyResult")


class Work(Protocol[Item, Result]):
    """What is done to items; equal works are done together."""

    def __call__(self, items: Sequence[Item], /) -> Sequence[Result]:
        """One result an item, in order; may run in any company of items."""
        ...


class QueueFull(Exception):
    """More would wait than may."""


OnBatch = Callable[[Work[Any, Any], int, float], None]
"""Hears of every batch: the work, its items, its seconds."""


@dataclass(eq=False)
class _Order(Generic[AnyResult]):
    """One request's items, done in one batch or several."""

    work: Work[Any, AnyResult]
    items: Sequence[Any]
    answer: asyncio.Future[list[AnyResult]]
    loop: asyncio.AbstractEventLoop
    results: list[AnyResult] = field(default_factory=list)

    @property
    def left(self) -> int:
        return len(self.items) - len(self.results)


class Batcher:
    """A bounded queue and the one thread that empties it. ``start`` it, ``close`` it.

    max_batch: items worked on together. max_queue: items that may wait, those in work included.
    """

    def __init__(self, max_batch: int, max_queue: int, on_batch: OnBatch | None = None) -> None:
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._on_batch = on_batch or (lambda work, items, seconds: None)
        self._orders: deque[_Order[Any]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)
        self.waiting = 0
        """Items in the queue or in work."""

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """Finish what was taken, then stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    async def submit(
        self, work: Work[Item, AnyResult], items: Sequence[Item], *, always: bool = False
    ) -> list[AnyResult]:
        """The results of ``items``, in order, once their turns have come.

        Raises QueueFull, unless ``always``, and whatever ``work`` raises for these items.
        """
        if not items:
            return []
        loop = asyncio.get_running_loop()
        order = _Order(work, items, loop.create_future(), loop)
        with self._changed:
            if self._closing or (self.waiting + len(items) > self._max_queue and not always):
                raise QueueFull
            self.waiting += len(items)
            self._orders.append(order)
            self._changed.notify()
        return await order.answer

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            work, started = batch[0][0].work, time.perf_counter()
            items = [item for _, part in batch for item in part]
            try:
                results = list(work(items))
                self._on_batch(work, len(items), time.perf_counter() - started)
            except Exception as error:
                if len(batch) == 1:
                    self._failed(batch[0][0], error)
                else:  # one request's bad item is no other request's fault
                    for order, part in batch:
                        self._alone(order, part)
                continue
            for order, part in batch:
                self._done(order, results[: len(part)])
                del results[: len(part)]

    def _next(self) -> list[tuple[_Order[Any], Sequence[Any]]] | None:
        """Orders of the same work, the oldest first, and the items of each that fit; None at the end."""
        with self._changed:
            while not self._drop_cancelled():
                if self._closing:
                    return None
                self._changed.wait()
            room, batch = self._max_batch, []
            for order in [o for o in self._orders if o.work == self._orders[0].work]:
                start = len(order.results)
                part = order.items[start : start + room]
                batch.append((order, part))
                self._orders.remove(order)
                room -= len(part)
                if not room:
                    break
            return batch

    def _drop_cancelled(self) -> int:
        """Forget orders that nobody waits for any more; how many are left."""
        for order in [o for o in self._orders if o.answer.cancelled()]:
            self._orders.remove(order)
            self.waiting -= order.left
        return len(self._orders)

    def _alone(self, order: _Order[Any], part: Sequence[Any]) -> None:
        try:
            results = list(order.work(part))
        except Exception as error:
            self._failed(order, error)
        else:
            self._done(order, results)

    def _done(self, order: _Order[Any], results: Sequence[Any]) -> None:
        order.results += results
        with self._changed:
            self.waiting -= len(results)
            if order.left:
                self._orders.append(order)  # behind the others: a large request does not hold up small ones
                return
        _settle(order, order.results, None)

    def _failed(self, order: _Order[Any], error: Exception) -> None:
        with self._changed:
            self.waiting -= order.left
        _settle(order, None, error)


def _settle(order: _Order[Any], results: Any, error: Exception | None) -> None:
    """Tell the request's event loop, from the worker's thread."""

    def tell() -> None:
        if order.answer.done():  # cancelled: nobody waits for it any more
            return
        if error is None:
            order.answer.set_result(results)
        else:
            order.answer.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop is gone, and the request with it
        order.loop.call_soon_threadsafe(tell)
