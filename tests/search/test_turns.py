"""Fair turns: who has had least is next, in tokens and seconds, and the queue knows how long it is."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from searchrl.search.worker import Lane, QueueFull, Worker
from searchrl.threads import pause


@dataclass(frozen=True)
class Sleep:
    """Sleeps for each item's milliseconds; a token is a millisecond."""

    lane: Lane = "judge"
    log: list[tuple[Lane, int]] = field(default_factory=list, compare=False)
    pauses: bool = False

    def tokens(self, item: int) -> int:
        return item

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.log.append((self.lane, len(items)))
        for item in items:
            for _ in range(item):
                time.sleep(0.001)
                if self.pauses:
                    pause()
        return list(items)


async def _warm(worker: Worker, *lanes: Lane) -> None:
    for lane in lanes:
        for _ in range(12):
            await worker.submit(Sleep(lane), [20])


def timed(worker: Worker, lane: Lane, item: int, pauses: bool = False) -> asyncio.Task[float]:
    async def main() -> float:
        started = time.perf_counter()
        await worker.submit(Sleep(lane, pauses=pauses), [item])
        return time.perf_counter() - started

    return asyncio.create_task(main())


def test_a_short_job_waits_for_one_turn_of_a_long_one() -> None:
    async def main() -> tuple[float, float]:
        worker = Worker(32, turn_seconds=0.05)
        await _warm(worker, "judge")
        started = time.perf_counter()
        long = asyncio.create_task(worker.submit(Sleep("judge"), [10] * 100))
        await asyncio.sleep(0.02)
        short = await timed(worker, "search", 1)
        await long
        worker.close()
        return short, time.perf_counter() - started

    short, long = asyncio.run(main())
    assert long > 1.0
    assert short < 0.2, "one turn of 50 ms, and some noise"


def test_lanes_of_equal_weight_share_the_time() -> None:
    async def main() -> list[tuple[Lane, int]]:
        log: list[tuple[Lane, int]] = []
        worker = Worker(32, turn_seconds=0.03)
        await _warm(worker, "judge", "agent")
        orders = [worker.submit(Sleep(lane, log), [10] * 30) for lane in ("judge", "agent")]
        await asyncio.gather(*orders)
        worker.close()
        return log

    log = asyncio.run(main())
    half = log[: len(log) // 2]
    share = sum(n for lane, n in half if lane == "judge") / sum(n for _, n in half)
    assert 0.3 < share < 0.7


def test_callers_of_one_lane_share_its_turns() -> None:
    async def main() -> tuple[float, float]:
        worker = Worker(8, turn_seconds=0.05)
        await _warm(worker, "judge")

        async def one(count: int) -> float:
            started = time.perf_counter()
            await worker.submit(Sleep(), [10] * count)
            return time.perf_counter() - started

        large = asyncio.create_task(one(100))
        await asyncio.sleep(0.01)
        small = await one(2)
        return small, await large

    small, large = asyncio.run(main())
    assert small < 0.3 * large


def test_what_pauses_lets_others_in_between() -> None:
    async def main() -> tuple[float, float]:
        worker = Worker(32, turn_seconds=0.05)
        text = timed(worker, "write", 500, pauses=True)
        await asyncio.sleep(0.05)
        return await timed(worker, "search", 1), await text

    short, long = asyncio.run(main())
    assert short < 0.1
    assert long > 0.5


def test_two_threads_work_at_once() -> None:
    async def main() -> float:
        worker = Worker(32, threads=2)
        long = timed(worker, "judge", 300)
        await asyncio.sleep(0.02)
        short = await timed(worker, "search", 1)
        await long
        worker.close()
        return short

    assert asyncio.run(main()) < 0.1


def test_a_deadline_gives_what_is_ready() -> None:
    async def main() -> tuple[list[int], float]:
        worker = Worker(1, turn_seconds=0.01)
        await _warm(worker, "judge")
        started = time.perf_counter()
        ready = await worker.submit_until(Sleep(), [20] * 50, time.monotonic() + 0.2)
        seconds = time.perf_counter() - started
        worker.close()
        return ready, seconds

    ready, seconds = asyncio.run(main())
    assert 1 <= len(ready) <= 12
    assert seconds < 0.4


def test_the_wait_is_estimated_in_seconds() -> None:
    async def main() -> tuple[float, float, float]:
        worker = Worker(4, turn_seconds=0.05)
        await _warm(worker, "judge")
        nothing = worker.wait("judge")
        task = timed(worker, "judge", 1)
        tasks = [asyncio.create_task(worker.submit(Sleep(), [20] * 25)) for _ in range(2)]
        await asyncio.sleep(0)
        started, expected = time.perf_counter(), worker.wait("judge")
        await asyncio.gather(task, *tasks)
        worker.close()
        return nothing, expected, time.perf_counter() - started

    nothing, expected, seconds = asyncio.run(main())
    assert nothing == 0.0
    assert expected == pytest.approx(seconds, rel=0.5)


def test_who_leaves_is_not_worked_for_nor_counted() -> None:
    async def main() -> tuple[int, float]:
        worker = Worker(1)
        first = timed(worker, "judge", 100)
        left = [timed(worker, "judge", 1000) for _ in range(3)]
        await asyncio.sleep(0.02)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        seconds = worker.wait("judge")
        await first
        await worker.submit(Sleep(), [1])
        worker.close()
        return worker.waiting, seconds

    waiting, seconds = asyncio.run(main())
    assert waiting == 0
    assert seconds < 0.5


def test_more_than_may_wait_is_refused() -> None:
    async def main() -> None:
        worker = Worker(1, 3)
        running = timed(worker, "judge", 50)
        await asyncio.sleep(0.01)
        with pytest.raises(QueueFull):
            await worker.submit(Sleep(), [1, 1, 1])
        await running
        worker.close()

    asyncio.run(main())


def test_one_bad_item_is_no_other_callers_fault() -> None:
    class Bad(Sleep):
        def __call__(self, items: Sequence[int]) -> list[int]:
            if 7 in items:
                raise ValueError("seven")
            return super().__call__(items)

    async def main() -> list[object]:
        worker = Worker()
        busy = timed(worker, "judge", 30)
        await asyncio.sleep(0.01)
        orders = [worker.submit(Bad(), [n]) for n in (1, 7, 2)]
        results = await asyncio.gather(*orders, return_exceptions=True)
        await busy
        worker.close()
        return list(results)

    one, seven, two = asyncio.run(main())
    assert (one, two) == ([1], [2])
    assert isinstance(seven, ValueError)


def test_close_finishes_what_was_taken() -> None:
    async def main() -> list[list[int]]:
        worker = Worker(1, threads=2)
        tasks = [asyncio.create_task(worker.submit(Sleep(lane), [20, 20])) for lane in ("judge", "search", "write")]
        await asyncio.sleep(0)
        await asyncio.to_thread(worker.close)
        return list(await asyncio.gather(*tasks))

    assert asyncio.run(main()) == [[20, 20]] * 3
    assert not [t for t in threading.enumerate() if t.name.startswith("searchrl_")]
