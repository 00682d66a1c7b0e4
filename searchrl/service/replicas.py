"""The service several times, by Ray Serve: the same application, with models, threads and batches of its own in each
replica. This process takes the requests, hands each to a replica, and to another one where that dies on it: what the
service answers changes nothing, so it may be asked twice.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any

from searchrl.cluster import connect
from searchrl.config import RayConfig
from searchrl.errors import EngineError, reason
from searchrl.extras import needs
from searchrl.service import ServerConfig, retrieve
from searchrl.service.connections import bind, make_server
from searchrl.service.wire import problem

logger = logging.getLogger(__name__)

NAME = "searchrl"
ATTEMPTS = 3
"""Replicas that a request is given to at most."""
SENT = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers", "client")
"""Of a request's scope."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Replica:
    """In a process of its own."""

    async def __init__(self, config: ServerConfig, token: str | None, generation: int) -> None:  # type: ignore[misc]
        from searchrl.service.app import create_app, make_service

        models = replace(config.models, cluster=RayConfig())  # a replica computes for itself
        config = replace(config, models=models, replicas=1)
        self._app = create_app(make_service(config), config, token)
        self._lifespan = self._app.router.lifespan_context(self._app)
        await self._lifespan.__aenter__()

    async def answer(self, scope: dict[str, Any], body: bytes) -> AsyncIterator[Message]:
        """The messages of one answer, as they come."""
        said: asyncio.Queue[Message | None] = asyncio.Queue()
        asked = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            if message := next(asked, None):
                return message
            await asyncio.Event().wait()  # nobody hangs up here
            raise AssertionError

        async def work() -> None:
            try:
                await self._app({**scope, "root_path": "", "state": {}}, receive, said.put)
            finally:
                await said.put(None)

        task = asyncio.create_task(work())
        try:
            while message := await said.get():
                yield message
            await task
        finally:
            task.cancel()


class Front:
    """An ASGI application that has replicas answer."""

    def __init__(self, handle: Any, most: int, died: type[BaseException]) -> None:
        self._handle, self._most, self._died = handle, most, died

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request, or the lifespan, in which there is nothing to do."""
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = await self._body(receive)
        if body is None:
            await problem(scope["path"], 413, f"more than {self._most} bytes")(scope, receive, send)
            return
        plain = {name: scope[name] for name in SENT if name in scope}
        for _ in range(ATTEMPTS):
            begun = False
            try:
                async for message in self._handle.answer.remote(plain, body):
                    begun = True
                    await send(message)
                return
            except self._died:
                if begun:  # half an answer cannot be taken back
                    raise
        await problem(scope["path"], 503, "the replicas die on this request")(scope, receive, send)

    async def _body(self, receive: Receive) -> bytes | None:
        """All of a request's body; None where that is more than is taken, or the client went away."""
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most:
                return None
            if not message.get("more_body"):
                return b"".join(parts)


def run(config: ServerConfig, token: str | None) -> None:
    """Serve until this process is told to stop; told to hang up (SIGHUP), it replaces the replicas one after another.

    Raises ConfigError where the extra is missing, EngineError where the replicas do not start.
    """
    cluster, limits = config.models.cluster, config.limits
    with bind(config) as listening:
        ray = connect(cluster)
        with needs("ray"):
            from ray import serve
        serve.start(proxy_location="Disabled")
        deployment = serve.deployment(
            name=NAME,
            num_replicas=config.replicas,
            max_ongoing_requests=limits.max_connections,
            graceful_shutdown_timeout_s=float(config.shutdown_timeout),
            ray_actor_options={"num_cpus": cluster.ray_cpus, "num_gpus": cluster.ray_gpus},
        )(Replica)
        generation = 0

        def deploy() -> Any:
            nonlocal generation
            generation += 1
            return serve.run(deployment.bind(config, token, generation), name=NAME, route_prefix=None)

        try:
            handle = deploy().options(stream=True)
        except (RuntimeError, TimeoutError) as error:
            raise EngineError(f"the replicas do not start ({reason(error)}); Ray's log says why") from error
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=deploy, daemon=True).start())
        logger.warning("%d replicas are ready", config.replicas)
        most = max(limits.max_body, limits.max_rollout * retrieve.QUERY_BYTES)
        try:
            make_server(Front(handle, most, ray.exceptions.RayActorError), config).run(sockets=[listening])
        finally:
            serve.shutdown()
