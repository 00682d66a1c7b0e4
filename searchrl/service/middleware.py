"""ASGI middleware: who may ask and how much, whose client went away, and what is counted, in Prometheus's format."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Collection, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from searchrl.service.wire import problem

OPEN = frozenset({"/", "/page.css", "/page.js", "/healthz", "/readyz", "/docs", "/openapi.json"})
"""What says nothing about any corpus, and is answered without a token."""

UPLOADS = "/corpora/"
"""Uploads have a limit of their own (``service.py``)."""

CLOSED = {"Connection": "close"}
"""Said where a body was not read, so that the connection cannot be used again."""

GONE = 499
"""The status that is counted where the client went away; nobody receives it. nginx's number for it."""

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class AccessControl:
    """Refuses a request before anything reads it.

    hosts: names that the Host header may give, empty for any. On loopback this keeps a web page from reaching the
    service through a name of its own that resolves to this machine (DNS rebinding). token: what the header
    ``Authorization: Bearer`` must carry, None for nothing. max_body, body_seconds: bytes of a body, and the time in
    which it has to come. larger: path -> bytes of a body there.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str],
        token: str | None,
        max_body: int,
        body_seconds: float,
        larger: Mapping[str, int],
    ) -> None:
        self._app, self._hosts, self._token = app, hosts, token
        self._max_body, self._body_seconds, self._larger = max_body, body_seconds, larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 400, 401 or 413, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        most = self._larger.get(path, self._max_body)
        if self._hosts and _host_name(headers.get("host", "")) not in self._hosts:
            refusal = _refusal(path, 400, "this Host is not served here: the service's setting allow_host names others")
        elif self._token is not None and path not in OPEN and not self._knows(headers):
            refusal = _refusal(path, 401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})
        elif scope["method"] == "PUT" and path.startswith(UPLOADS):
            return await self._app(scope, receive, send)
        elif _length(headers) > most:
            refusal = _refusal(path, 413, _too_large(most))
        else:
            return await self._app(scope, self._counted(receive, most), send)
        await refusal(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        known = hmac.compare_digest(given.strip().encode("latin-1"), (self._token or "").encode())
        return known and scheme.lower() == "bearer"

    def _counted(self, receive: Receive, most: int) -> Receive:
        """Watches a body while it comes: not all say how long they are, and some never end."""
        size, whole = 0, False
        end = time.monotonic() + self._body_seconds

        async def counted() -> Message:
            nonlocal size, whole
            if whole:  # what comes now is that the client goes away
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
            except TimeoutError:
                late = f"the body did not come within {self._body_seconds:g} seconds"
                raise HTTPException(408, late, CLOSED) from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body")
            if size > most:
                raise HTTPException(413, _too_large(most), CLOSED)
            return message

        return counted


def _too_large(most: int) -> str:
    return f"more than {most} bytes; ask in several requests, or raise the service's max_body (/retrieve: max_rollout)"


def _refusal(path: str, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return problem(path, status, detail, {**(headers or {}), **CLOSED})


def _length(headers: Headers) -> int:
    given = headers.get("content-length", "0")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 20 else 0


def _host_name(host: str) -> str:
    """The Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": NOTHING,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""What browsers are told with every answer that says nothing else."""
POLICIES = {
    "/": f"{NOTHING}; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:",
    "/docs": f"{NOTHING}; script-src 'unsafe-inline' https://cdn.jsdelivr.net; style-src https://cdn.jsdelivr.net; "
    "connect-src 'self'; img-src data: https://fastapi.tiangolo.com",
}
"""Pages and what they may load: the page of the service nothing from outside, FastAPI's page its scripts."""


class SafeHeaders:
    """Tells browsers to do no more with an answer than it is for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add to the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def safer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if policy := POLICIES.get(scope["path"]):
                    headers["Content-Security-Policy"] = policy
            await send(message)

        await self._app(scope, receive, safer)


class Disconnect:
    """Cancels the answer to a request whose client went away after it was read; uploads watch for that themselves.

    What of theirs waits for the models is then dropped from the queue (``search/worker.py``).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, unless the client goes first."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        was_read = asyncio.Event()
        begun = whole = False

        async def reading() -> Message:
            message = await receive()
            if not message.get("more_body"):
                was_read.set()
            return message

        async def sending(message: Message) -> None:
            nonlocal begun, whole
            begun, whole = True, message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        async def gone() -> None:
            await was_read.wait()
            while (await receive())["type"] != "http.disconnect":
                pass

        answer = asyncio.ensure_future(self._app(scope, reading, sending))
        watch = asyncio.ensure_future(gone())
        try:
            await asyncio.wait((answer, watch), return_when=asyncio.FIRST_COMPLETED)
        finally:  # also where the service itself is told to stop
            watch.cancel()
            if not answer.done() and not whole:  # a server says so after a whole answer, too
                answer.cancel()
        try:
            await answer
        except asyncio.CancelledError:
            if not begun:
                await Response(status_code=GONE)(scope, receive, send)


class Metrics:
    """One service's counters."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("searchrl_requests", "Requests answered", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "searchrl_request_seconds", "From request to answer", ["route"], buckets=SECONDS, registry=registry
        )
        self.batch_items = Histogram(
            "searchrl_batch_items", "Items worked on together", ["work"], buckets=ITEMS, registry=registry
        )
        self.work_seconds = Histogram(
            "searchrl_work_seconds", "Time that a batch took", ["work"], buckets=SECONDS, registry=registry
        )
        self.waiting = Gauge("searchrl_waiting_items", "Items in the queue or in work", registry=registry)
        self.wait = Gauge(
            "searchrl_wait_seconds", "Time that new work would wait, by its lane", ["lane"], registry=registry
        )
        self.judgments = Gauge(
            "searchrl_judgments", "Judgments asked for, by where they came from", ["source"], registry=registry
        )
        self.stopped = Counter("searchrl_stopped", "Searches that a budget ended", ["limit"], registry=registry)
        self.corpora = Gauge("searchrl_corpora", "Corpora that can be searched", registry=registry)

    def batch(self, work: object, items: int, seconds: float) -> None:
        """Count one batch."""
        name = type(work).__name__
        self.batch_items.labels(name).observe(items)
        self.work_seconds.labels(name).observe(seconds)

    def text(self) -> bytes:
        """Everything, as GET /metrics answers it."""
        return generate_latest(self._registry)


class CountRequests:
    """Counts and times requests by route, so that a client cannot make up labels."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and watch the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route: Any = scope.get("route")
            name = getattr(route, "path", "other")
            self._metrics.requests.labels(name, str(status)).inc()
            self._metrics.seconds.labels(name).observe(time.perf_counter() - started)
