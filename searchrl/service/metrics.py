"""What the service counts, in Prometheus's text format; and the middleware that counts requests."""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One service's counters."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
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
    """ASGI middleware: counts and times requests by route, so that a client cannot make up labels."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

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
