"""What several callers ask is worked on together, in one thread, each getting its own results; the queue is bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.errors import ConfigError
from searchrl.search.worker import Lane, QueueFull, Worker


class Gate:
    """Work that waits until it may go on, and keeps what it was given."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()


@dataclass(frozen=True)
class Square:
    gate: Gate
    name: str = "square"
    lane: Lane = "judge"

    def tokens(self, item: int) -> int:
        return 1

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.gate.begun.set()
        self.gate.open.wait()
        self.gate.threads.add(threading.get_ident())
        self.gate.batches.append(list(items))
        if -1 in items:
            raise ValueError("no square of -1 here")
        return [item * item for item in items]


def run(worker: Worker, gate: Gate, orders: list[tuple[Square, list[int]]]) -> list[object]:
    """Submit the first order, all others while it is held back at work, then let everything go on."""

    async def all_at_once() -> list[object]:
        tasks = []
        for work, items in orders:
            tasks.append(asyncio.create_task(worker.submit(work, items)))
            await asyncio.sleep(0)
            await asyncio.to_thread(gate.begun.wait)
        while worker.waiting < sum(len(items) for _, items in orders):
            await asyncio.sleep(0.001)
        gate.open.set()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    try:
        return asyncio.run(all_at_once())
    finally:
        gate.open.set()
        worker.close()


@given(
    orders=st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 99), min_size=1, max_size=9)), min_size=1, max_size=9
    ),
    max_batch=st.integers(1, 8),
)
def test_everyone_gets_his_own_results_in_order_and_no_batch_is_too_large(
    orders: list[tuple[str, list[int]]], max_batch: int
) -> None:
    gate = Gate()
    worker = Worker(max_batch, max_queue=1000)
    results = run(worker, gate, [(Square(gate, name), items) for name, items in orders])
    assert results == [[item * item for item in items] for _, items in orders]
    assert max(map(len, gate.batches)) <= max_batch
    assert len(gate.threads) == 1
    assert worker.waiting == 0


def test_waiting_requests_of_the_same_work_are_one_batch() -> None:
    gate = Gate()
    work, other = Square(gate), Square(gate, "other")
    run(Worker(8, 100), gate, [(work, [0]), (work, [1]), (other, [9]), (work, [2, 3])])
    first, *rest = gate.batches
    assert first == [0], "a request alone is not kept waiting"
    assert sorted(rest) == [[1, 2, 3], [9]]


def test_a_large_request_does_not_hold_up_a_small_one() -> None:
    gate = Gate()
    run(Worker(2, 100), gate, [(Square(gate), list(range(10))), (Square(gate, "small"), [77])])
    assert gate.batches.index([77]) == 1


def test_a_bad_item_fails_its_own_request_only() -> None:
    gate = Gate()
    work = Square(gate)
    results = run(Worker(8, 100), gate, [(work, [0]), (work, [1, 2]), (work, [-1]), (work, [3])])
    assert results[:2] == [[0], [1, 4]]
    assert isinstance(results[2], ValueError)
    assert results[3] == [9]


def test_what_does_not_fit_the_queue_is_refused_at_once_and_the_rest_is_done() -> None:
    gate = Gate()

    async def main() -> None:
        worker = Worker(4, max_queue=3)
        taken = asyncio.create_task(worker.submit(Square(gate), [1, 2]))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await worker.submit(Square(gate), [3, 4])
        always = asyncio.create_task(worker.submit(Square(gate), [5, 6], always=True))
        await asyncio.sleep(0)
        gate.open.set()
        assert await taken == [1, 4]
        assert await always == [25, 36]
        assert await worker.submit(Square(gate), [3, 4]) == [9, 16], "there is room again"
        await asyncio.to_thread(worker.close)

    asyncio.run(main())


def test_closing_finishes_what_was_taken() -> None:
    gate = Gate()

    async def main() -> None:
        worker = Worker(1, 100)
        tasks = [asyncio.create_task(worker.submit(Square(gate), [i])) for i in range(5)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(worker.close))
        gate.open.set()
        await closing
        assert await asyncio.gather(*tasks) == [[i * i] for i in range(5)]
        with pytest.raises(ConfigError, match="closed"):
            await worker.submit(Square(gate), [1])

    asyncio.run(main())


def test_nobody_works_for_a_request_that_was_given_up() -> None:
    gate = Gate()

    async def main() -> None:
        worker = Worker(1, 100)
        first = asyncio.create_task(worker.submit(Square(gate), [1]))
        await asyncio.sleep(0)
        await asyncio.to_thread(gate.begun.wait)
        gone = asyncio.create_task(worker.submit(Square(gate), [2, 3]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        gate.open.set()
        await first
        await asyncio.to_thread(worker.close)
        assert worker.waiting == 0

    asyncio.run(main())
    assert gate.batches == [[1]]
