"""Work of all callers through one thread, in batches: while the models are busy, what arrives joins the next batch.

Nothing waits for a batch to fill. A caller alone is served at once; under load batches grow by themselves. One thread,
because concurrent calls of a model fight for the same cores (and abort on mps); the event loop stays free meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, Literal, Protocol, TypeVar

from searchrl.errors import ConfigError
from searchrl.models.language_model import FloatArray, LanguageModel
from searchrl.retrieval.dense import TextEncoder
from searchrl.reward.reward_model import RewardModel

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)
T = TypeVar("T")


class Work(Protocol[Item, Result]):
    """What is done to items; equal works are done together."""

    def __call__(self, items: Sequence[Item], /) -> Sequence[Result]:
        """One result an item, in order; may run in any company of items."""
        ...


@dataclass(frozen=True)
class Embed:
    """Texts to unit vectors."""

    encoder: TextEncoder
    kind: Literal["query", "document"]

    def __call__(self, texts: Sequence[str]) -> Sequence[FloatArray]:
        """One vector (dim,) a text."""
        return list(self.encoder.encode(texts, kind=self.kind, show_progress=False, description="embed"))


@dataclass(frozen=True)
class Score:
    """(query, key) pairs to relevance."""

    reward: RewardModel

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One score a pair."""
        scores: list[float] = self.reward.score([query for query, _ in pairs], [key for _, key in pairs]).tolist()
        return scores


@dataclass(frozen=True)
class Generate:
    """Prompts to text."""

    lm: LanguageModel
    max_new_tokens: int
    temperature: float
    seed: int

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        """One text a prompt."""
        most, heat = self.max_new_tokens, self.temperature
        return self.lm.generate(prompts, max_new_tokens=most, temperature=heat, seed=self.seed)


class QueueFull(Exception):
    """More would wait than may."""


class Closed(ConfigError):
    """Nothing new is taken any more."""


OnBatch = Callable[[Work[Any, Any], int, float], None]
"""Hears of every batch: the work, its items, its seconds."""


@dataclass(eq=False)
class _Order(Generic[T]):
    """One caller's items, done in one batch or several."""

    work: Work[Any, T]
    items: Sequence[Any]
    answer: Future[list[T]] = field(default_factory=Future)
    results: list[T] = field(default_factory=list)

    @property
    def left(self) -> int:
        return len(self.items) - len(self.results)


_Part = tuple[_Order[Any], Sequence[Any]]
"""An order, and those of its items that a batch takes."""


class Worker:
    """The thread that works, and the queue in front of it. ``close`` it in the end.

    max_batch: items worked on together; None for all that are there. max_queue: items that may wait, those in work
    included; None for any number.
    """

    def __init__(
        self, max_batch: int | None = None, max_queue: int | None = None, on_batch: OnBatch | None = None
    ) -> None:
        self._max_batch, self._max_queue = max_batch, max_queue
        self._on_batch = on_batch or (lambda work, items, seconds: None)
        self._orders: deque[_Order[Any]] = deque()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="searchrl")
        self._closed = self._at_work = False
        self.waiting = 0
        """Items in the queue or in work."""

    async def submit(self, work: Work[Item, T], items: Sequence[Item], *, always: bool = False) -> list[T]:
        """The results of ``items``, in order, once their turns have come. Who is cancelled while waiting leaves.

        Raises QueueFull, unless ``always``, Closed after ``close``, and whatever ``work`` raises for these items.
        """
        if not items:
            return []
        order = _Order(work, items)
        with self._lock:
            most = self._max_queue
            if most is not None and self.waiting + len(items) > most and not always:
                raise QueueFull
            self._take(order)
        return await asyncio.wrap_future(order.answer)

    async def run(self, work: Callable[[], T]) -> T:
        """Do ``work`` in the thread, alone. What has begun is finished, also where its caller is cancelled."""
        return (await self.submit(lambda _: [work()], [None], always=True))[0]

    def afterwards(self, work: Callable[[], object]) -> None:
        """Do ``work`` once all is done that came before; nobody waits for it."""
        with self._lock:
            if not self._closed:
                self._take(_Order(lambda _: [work()], [None]))
                return
        work()

    def close(self) -> None:
        """Finish what was taken, then end the thread."""
        with self._lock:
            self._closed = True
        self._thread.shutdown(wait=True)

    def _take(self, order: _Order[Any]) -> None:
        if self._closed:
            raise Closed("this search is closed: make a new one")
        self.waiting += len(order.items)
        self._orders.append(order)
        if not self._at_work:
            self._at_work = True
            self._thread.submit(self._work)

    def _work(self) -> None:
        """Empty the queue, batch by batch."""
        while batch := self._next():
            self._do(batch)

    def _do(self, batch: list[_Part]) -> None:
        work, started = batch[0][0].work, time.perf_counter()
        items = [item for _, part in batch for item in part]
        try:
            results = iter(list(work(items)))
            self._on_batch(work, len(items), time.perf_counter() - started)
        except BaseException as error:  # whatever it is, the caller hears of it and the thread goes on
            if len(batch) == 1:
                self._failed(batch[0][0], error)
            else:  # one caller's bad item is no other caller's fault
                for one in batch:
                    self._do([one])
        else:
            for order, part in batch:
                self._done(order, list(islice(results, len(part))))

    def _next(self) -> list[_Part]:
        """Orders of the same work, the oldest first, and the items of each that fit; none at the end."""
        with self._lock:
            for order in [o for o in self._orders if o.answer.cancelled()]:  # nobody waits for it any more
                self._orders.remove(order)
                self.waiting -= order.left
            self._at_work = bool(self._orders)
            room, batch = self._max_batch or self.waiting, []
            for order in [o for o in self._orders if o.work == self._orders[0].work]:
                start = len(order.results)
                part = order.items[start : start + room]
                batch.append((order, part))
                self._orders.remove(order)
                room -= len(part)
                if not room:
                    break
            return batch

    def _done(self, order: _Order[Any], results: Sequence[Any]) -> None:
        order.results += results
        with self._lock:
            self.waiting -= len(results)
            if order.left:
                self._orders.append(order)  # behind the others: a large order does not hold up small ones
                return
        with contextlib.suppress(InvalidStateError):  # cancelled
            order.answer.set_result(order.results)

    def _failed(self, order: _Order[Any], error: BaseException) -> None:
        with self._lock:
            self.waiting -= order.left
        with contextlib.suppress(InvalidStateError):
            order.answer.set_exception(error)
