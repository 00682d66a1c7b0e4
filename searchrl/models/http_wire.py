"""One HTTP request with a limit on everything: the time for all of it, and the bytes of the answer.

A client library's own timeouts are about one read each, so a server that sends a byte now and then holds a caller for
ever. Requests therefore run in an event loop, in a thread of its own, where one can be given up at any moment.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

T = TypeVar("T")

CONNECT_SECONDS = 20.0

MOST_BYTES = 64_000_000
"""Of an answer; the probabilities of a whole vocabulary are 30 MB."""
MOST_OF_A_REFUSAL = 64_000
"""Of an answer that is none: only its message is shown."""


class Unanswered(Exception):
    """No answer came, or not in time; trying again may help."""


class Oversized(Exception):
    """The answer is larger than anything that was asked for."""


@dataclass(frozen=True)
class Reply:
    """Status, headers and body."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    content: bytes


class Wire:
    """Connections to one server, shared by threads.

    seconds: for one request, from connecting to the last byte. connections: at most at a time; more wait, which counts.
    """

    def __init__(self, headers: Mapping[str, str], seconds: float, connections: int) -> None:
        self._seconds = seconds
        self._loop = _Loop()
        self._client = httpx.AsyncClient(
            headers={**headers, "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(None, connect=min(seconds, CONNECT_SECONDS)),
            limits=httpx.Limits(max_connections=connections),
        )
        self._stop = weakref.finalize(self, self._loop.stop, self._client)

    def ask(self, method: str, url: str, body: Any) -> Reply:
        """Send a request, with ``body`` as JSON unless it is None, and wait for its answer.

        Raises Unanswered where none came in time, Oversized where it is too large.
        """
        return self._loop.do(self._ask(method, url, body))

    def close(self) -> None:
        """Close all connections; requests under way fail."""
        self._stop()

    async def _ask(self, method: str, url: str, body: Any) -> Reply:
        try:
            async with asyncio.timeout(self._seconds), self._client.stream(method, url, json=body) as answer:
                return await _read(answer)
        except TimeoutError as error:
            raise Unanswered(f"not done within {self._seconds:g} s") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Unanswered(f"{type(error).__name__}: {error}") from error


async def _read(answer: httpx.Response) -> Reply:
    content, found = bytearray(), answer.status_code == 200
    async for piece in answer.aiter_bytes():
        content += piece
        if found and len(content) > MOST_BYTES:
            raise Oversized(f"more than {MOST_BYTES} bytes")
        if not found and len(content) > MOST_OF_A_REFUSAL:
            break
    return Reply(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, bytes(content))


class _Loop:
    """An event loop in a thread of its own, from its first use until ``stop``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for ``work``. Raises Unanswered where the loop was stopped, before or meanwhile."""
        with self._lock:
            if self._stopped:
                work.close()
                raise Unanswered("the connection is closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name="searchrl-wire", daemon=True)
                self._thread.start()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except asyncio.CancelledError as error:
            raise Unanswered("the connection was closed") from error

    def stop(self, client: httpx.AsyncClient) -> None:
        """Give up what is under way, close the client's connections, end the thread."""
        with self._lock:
            self._stopped = True
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_wind_up(client), loop)
        if threading.current_thread() is not thread:  # which the garbage collector may choose
            thread.join(timeout=5)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _wind_up(client: httpx.AsyncClient) -> None:
    loop = asyncio.get_running_loop()
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.aclose()
    loop.call_soon(loop.stop)
