"""Work of all callers through one or two threads, in batches and in fair turns.

While the models are busy, what arrives joins the next batch: nothing waits for a batch to fill, and under load batches
grow by themselves. Work of one kind waits in a lane of its own. A turn is one batch of one lane, and the lane that has
had the least time so far is next (start-time fair queueing: Goyal, Vin and Cheng 1996), so a long job delays the
others by a turn, never by its length. Turns are cut in tokens, by the speed that was measured so far; by the same speed
the queue knows how long it is in seconds.

One thread for everything that must not run at the same time (concurrent calls abort on mps); elsewhere the language
model has a thread of its own beside that of searches. The event loop stays free meanwhile.
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
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, get_args

from searchrl.errors import ConfigError
from searchrl.models.language_model import FloatArray, LanguageModel
from searchrl.retrieval.dense import TextEncoder, encode_texts
from searchrl.reward.reward_model import RewardModel, checked_scores
from searchrl.threads import pausing

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)
T = TypeVar("T")

Lane = Literal["search", "rollout", "play", "index", "agent", "judge", "write"]
"""Plain searches; those of trainers, in masses; agents' steps; documents on their way into an index; what agents want
judged; what clients want judged; texts.
"""

SEARCHING: tuple[Lane, ...] = ("search", "rollout", "play", "index")
"""Lanes that need no language model."""
SHORT = 0.4
"""Of a turn of the language model, which is slow, is what these get: a plain search waits for one of them."""

CHARACTERS_PER_TOKEN = 4
LONGEST = 512
"""Tokens of a text that count, at most: models cut what they read."""


def tokens_of(*texts: str) -> int:
    """About how many tokens texts have together, as models read them; at least one."""
    return 1 + sum(min(len(text) // CHARACTERS_PER_TOKEN, LONGEST) for text in texts)


class Work(Protocol[Item, Result]):
    """What is done to items; equal works are done together."""

    @property
    def lane(self) -> Lane:
        """Where it waits."""
        ...

    def tokens(self, item: Item, /) -> int:
        """How much work an item is."""
        ...

    def __call__(self, items: Sequence[Item], /) -> Sequence[Result]:
        """One result an item, in order; may run in any company of items."""
        ...


@dataclass(frozen=True)
class Embed:
    """Texts to unit vectors."""

    encoder: TextEncoder
    kind: Literal["query", "document"]

    @property
    def lane(self) -> Lane:
        """Queries are short; documents come in masses."""
        return "search" if self.kind == "query" else "index"

    def tokens(self, item: str) -> int:
        """Those of the text."""
        return tokens_of(item)

    def __call__(self, texts: Sequence[str]) -> Sequence[FloatArray]:
        """One vector (dim,) a text."""
        return list(encode_texts(self.encoder, texts, self.kind))


@dataclass(frozen=True)
class Score:
    """(query, key) pairs to relevance."""

    reward: RewardModel
    lane: Lane = "judge"

    def tokens(self, item: tuple[str, str]) -> int:
        """Those of both texts."""
        return tokens_of(*item)

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One score a pair."""
        scores = checked_scores(self.reward, [query for query, _ in pairs], [key for _, key in pairs])
        return [float(score) for score in scores]


@dataclass(frozen=True)
class Generate:
    """Prompts to text."""

    lane: ClassVar[Lane] = "write"
    lm: LanguageModel
    max_new_tokens: int
    temperature: float
    seed: int

    def tokens(self, item: str) -> int:
        """Those of the prompt and those to come."""
        return tokens_of(item) + self.max_new_tokens

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        """One text a prompt."""
        most, heat = self.max_new_tokens, self.temperature
        return self.lm.generate(prompts, max_new_tokens=most, temperature=heat, seed=self.seed)


@dataclass(frozen=True, eq=False)
class _Call:
    """A function, called once."""

    function: Callable[[], Any]
    lane: Lane

    def tokens(self, item: None) -> int:
        return 1

    def __call__(self, items: Sequence[None]) -> list[Any]:
        return [self.function()]


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

    def __post_init__(self) -> None:
        self.costs = [self.work.tokens(item) for item in self.items]

    @property
    def left(self) -> int:
        return len(self.items) - len(self.results)


_Part = tuple[_Order[Any], Sequence[Any]]
"""An order, and those of its items that a batch takes."""


class _Speed:
    """Tokens in a second, as measured lately."""

    def __init__(self) -> None:
        self._tokens, self._items, self._seconds = 100.0, 0.4, 0.1  # a first guess, forgotten after a few batches
        self._known = False

    def learn(self, tokens: int, items: int, seconds: float) -> None:
        self._known = True
        self._tokens, self._items = 0.8 * self._tokens + tokens, 0.8 * self._items + items
        self._seconds = 0.8 * self._seconds + seconds

    @property
    def an_item(self) -> float:
        return self._seconds / self._items

    @property
    def rate(self) -> float:
        return self._tokens / max(self._seconds, 1e-6)

    @property
    def cautious(self) -> float:
        """The same, but low while nothing has been measured: the first turn is a short one."""
        return self.rate if self._known else 100.0


@dataclass(eq=False)
class _Queue:
    """One lane."""

    lane: Lane
    weight: float
    orders: deque[_Order[Any]] = field(default_factory=deque)
    """Those that no batch has at the moment."""
    at_work: list[_Order[Any]] = field(default_factory=list)
    spent: float = 0.0
    """Seconds that it has had, divided by its weight, or would have had if it had always had work."""


@dataclass(eq=False)
class _Thread:
    """One thread, and the lanes that share it."""

    queues: list[_Queue]
    pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=1, thread_name_prefix="searchrl")
    )
    awake: bool = False
    clock: float = 0.0
    """``spent`` of the lane that was served last: who comes back from a pause claims nothing for the time away."""
    nested: float = 0.0
    """Seconds of turns within the present one."""


class Worker:
    """The threads that work, and the lanes in front of them. ``close`` it in the end.

    max_batch: items worked on together; None for all that are there. max_queue: items that may wait, those in work
    included; None for any number. turn_seconds: about how long one turn may take (a single item may take longer); None
    for no limit. threads: 1, or 2 where the language model may work while searches do.
    """

    def __init__(
        self,
        max_batch: int | None = None,
        max_queue: int | None = None,
        on_batch: OnBatch | None = None,
        *,
        turn_seconds: float | None = None,
        threads: Literal[1, 2] = 1,
    ) -> None:
        self._max_batch, self._max_queue, self._turn_seconds = max_batch, max_queue, turn_seconds
        self._on_batch = on_batch or (lambda work, items, seconds: None)
        self._queues: dict[Lane, _Queue] = {lane: _Queue(lane, WEIGHTS.get(lane, 1.0)) for lane in get_args(Lane)}
        groups = [get_args(Lane)] if threads == 1 else [SEARCHING, [x for x in get_args(Lane) if x not in SEARCHING]]
        self._threads = [_Thread([self._queues[lane] for lane in group]) for group in groups]
        self._thread_of = {queue.lane: thread for thread in self._threads for queue in thread.queues}
        self._speeds: dict[str, _Speed] = {}
        self._lock = threading.RLock()
        self._closed = False
        self.waiting = 0
        """Items in the queue or in work."""

    async def submit(self, work: Work[Item, T], items: Sequence[Item], *, always: bool = False) -> list[T]:
        """The results of ``items``, in order, once their turns have come. Who is cancelled while waiting leaves.

        Raises QueueFull, unless ``always``, Closed after ``close``, and whatever ``work`` raises for these items.
        """
        return await self.submit_until(work, items, None, always=always)

    async def submit_until(
        self, work: Work[Item, T], items: Sequence[Item], deadline: float | None, *, always: bool = False
    ) -> list[T]:
        """As ``submit``, but at ``deadline`` (``time.monotonic``) whatever is ready: the results of the first items."""
        if not items:
            return []
        order: _Order[T] = _Order(work, items)
        with self._lock:
            most = self._max_queue
            if most is not None and self.waiting + len(items) > most and not always:
                raise QueueFull
            self._take(order)
        answer = asyncio.wrap_future(order.answer)
        if deadline is None:
            return await answer
        try:
            return await asyncio.wait_for(answer, max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            return list(order.results)

    async def run(self, work: Callable[[], T], lane: Lane = "judge") -> T:
        """Do ``work`` in a lane's thread, alone. What has begun is finished, also where its caller is cancelled."""
        done: list[T] = await self.submit(_Call(work, lane), [None], always=True)
        return done[0]

    def afterwards(self, work: Callable[[], object], lane: Lane = "judge") -> None:
        """Do ``work`` once all is done that came before in its lane; nobody waits for it."""
        with self._lock:
            if not self._closed:
                self._take(_Order(_Call(work, lane), [None]))
                return
        work()

    def wait(self, lane: Lane) -> float:
        """Seconds that new work of a lane would wait, as far as the speed so far tells.

        The other lanes of its thread get no more than their share of that time, and the turn that has begun.
        """
        with self._lock:
            mine, turn = self._queues[lane], self._turn_seconds or 0.0
            own = self._seconds(mine)
            others = [q for q in self._thread_of[lane].queues if q is not mine]
            return own + sum(min(self._seconds(q), own * q.weight / mine.weight + turn) for q in others)

    def seconds_an_item(self, kind: str) -> float:
        """What an item of one kind of work, by the name of its class, took lately."""
        return self._speeds.get(kind, _Speed()).an_item

    def close(self) -> None:
        """Finish what was taken, then end the threads."""
        with self._lock:
            self._closed = True
        for thread in self._threads:
            thread.pool.shutdown(wait=True)

    def _seconds(self, queue: _Queue) -> float:
        waiting = [o for o in (*queue.orders, *queue.at_work) if not o.answer.cancelled()]
        return sum(sum(islice(o.costs, len(o.results), None)) / self._speed(o.work).rate for o in waiting)

    def _speed(self, work: Work[Any, Any]) -> _Speed:
        return self._speeds.setdefault(type(work).__name__, _Speed())

    def _take(self, order: _Order[Any]) -> None:
        if self._closed:
            raise Closed("this search is closed: make a new one")
        lane: Lane = order.work.lane
        queue, thread = self._queues[lane], self._thread_of[lane]
        if not queue.orders and not queue.at_work:
            queue.spent = max(queue.spent, thread.clock)
        self.waiting += len(order.items)
        queue.orders.append(order)
        if not thread.awake:
            thread.awake = True
            thread.pool.submit(self._work, thread)

    def _work(self, thread: _Thread) -> None:
        """Empty the lanes of a thread, turn by turn."""
        while chosen := self._next(thread):
            self._turn(thread, *chosen)

    def _turn(self, thread: _Thread, queue: _Queue, batch: list[_Part]) -> None:
        started, before = time.perf_counter(), thread.nested
        thread.nested = 0.0

        def others() -> None:
            """Between two steps of long work: those who have had less time than this turn by now."""
            elapsed = time.perf_counter() - started - thread.nested
            while chosen := self._next(thread, queue, queue.spent + elapsed / queue.weight):
                begun = time.perf_counter()
                self._turn(thread, *chosen)
                thread.nested += time.perf_counter() - begun

        with pausing(others if queue.lane == "write" else None):
            self._do(batch)
        seconds = time.perf_counter() - started - thread.nested
        thread.nested = before
        with self._lock:
            for order, _ in batch:
                queue.at_work.remove(order)
            queue.spent += seconds / queue.weight

    def _do(self, batch: list[_Part]) -> None:
        work, started = batch[0][0].work, time.perf_counter()
        items = [item for _, part in batch for item in part]
        try:
            results = iter(list(work(items)))
            seconds = time.perf_counter() - started
            self._speed(work).learn(sum(work.tokens(item) for item in items), len(items), seconds)
            self._on_batch(work, len(items), seconds)
        except BaseException as error:  # whatever it is, the caller hears of it and the thread goes on
            if len(batch) == 1:
                self._failed(batch[0][0], error)
            else:  # one caller's bad item is no other caller's fault
                for one in batch:
                    self._do([one])
        else:
            for order, part in batch:
                self._done(order, list(islice(results, len(part))))

    def _next(
        self, thread: _Thread, within: _Queue | None = None, below: float = float("inf")
    ) -> tuple[_Queue, list[_Part]] | None:
        """The lane whose turn it is, and its batch; None where none has work.

        within: the lane whose turn goes on meanwhile; the other's must then have spent less than ``below``.
        """
        with self._lock:
            for queue in thread.queues:
                for order in [o for o in queue.orders if o.answer.cancelled()]:  # nobody waits for it any more
                    queue.orders.remove(order)
                    self.waiting -= order.left
            waiting = [q for q in thread.queues if q.orders and q is not within and q.spent < below]
            if not waiting:
                thread.awake = within is not None
                return None
            queue = min(waiting, key=lambda q: q.spent)
            thread.clock = max(thread.clock, queue.spent)
            return queue, self._batch(queue)

    def _batch(self, queue: _Queue) -> list[_Part]:
        """Orders of the same work, the oldest first, and a part of each: an equal share first, then what else fits."""
        work = queue.orders[0].work
        same = [order for order in queue.orders if order.work == work]
        room = self._max_batch or self.waiting
        turn = float("inf") if self._turn_seconds is None else self._turn_seconds
        tokens = turn * (SHORT if queue.lane in SEARCHING else 1.0) * self._speed(work).cautious
        counts = [0] * len(same)
        for share in (max(1, room // len(same)), room):
            for i, order in enumerate(same):
                start = len(order.results)
                while room and counts[i] < min(share, order.left) and (tokens > 0 or not any(counts)):
                    tokens -= order.costs[start + counts[i]]
                    counts[i] += 1
                    room -= 1
        batch: list[_Part] = []
        for order, count in zip(same, counts, strict=True):
            if count:
                start = len(order.results)
                batch.append((order, order.items[start : start + count]))
                queue.orders.remove(order)
                queue.at_work.append(order)
        return batch

    def _done(self, order: _Order[Any], results: Sequence[Any]) -> None:
        with self._lock:
            order.results += results
            self.waiting -= len(results)
            if order.left:
                # Behind the others: a large order does not hold up small ones.
                self._queues[order.work.lane].orders.append(order)
                return
        with contextlib.suppress(InvalidStateError):  # cancelled
            order.answer.set_result(order.results)

    def _failed(self, order: _Order[Any], error: BaseException) -> None:
        with self._lock:
            self.waiting -= order.left
        with contextlib.suppress(InvalidStateError):
            order.answer.set_exception(error)


WEIGHTS: dict[Lane, float] = {"search": 4.0}
"""Shares of the lanes on one thread; 1 where none is given."""
