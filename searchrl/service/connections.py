"""Connections: how many, how long a client may take to ask and to read, what happens to them when the service stops.

uvicorn's protocol on h11, with deadlines: its own keep-alive timeout ends with the first byte that comes. Where there
are too many connections, the one that has said nothing for longest makes room, so half-open ones keep nobody out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from searchrl.errors import ConfigError
from searchrl.service import ServerConfig

logger = logging.getLogger(__name__)

BACKLOG = 64
"""Connections that the system may hold until they are accepted, and that are accepted in one round of the loop."""
ROUNDS = 4
"""Rounds between accepting a connection and the end of the one that it displaces, on a machine that is busy."""
KEPT = 60
"""Seconds that a connection is kept without a request: at the limit the quiet ones go first in any case."""
OTHER_FILES = 64
"""Descriptors that the process needs beside connections."""
LATE = 0.1
"""Seconds by which a timer may fire late while the event loop is free."""
LINES, PERIOD = 10, 10.0
"""Lines of the log that may be alike within so many seconds."""
FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class Shared:
    """What all connections of one server know."""

    def __init__(self, most: int, ask_seconds: float, read_seconds: float) -> None:
        self.most, self.ask_seconds, self.read_seconds = most, ask_seconds, read_seconds
        self.quiet: dict[Connection, None] = {}
        """Those with no request under way, the oldest first."""


class Connection(H11Protocol):
    """One connection. A client has ``ask_seconds`` for the head of a request, from connecting or from its first byte
    on, and ``read_seconds`` to read when its answer does not fit the buffers.
    """

    shared: Shared

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._asking: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room if need be; where every other connection is at work, refuse this one."""
        super().connection_made(transport)
        quiet = self.shared.quiet
        if len(self.connections) > self.shared.most:
            if quiet:
                next(iter(quiet)).drop()
            else:
                transport.write(FULL)
                transport.close()
                return
        quiet[self] = None
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and watch for the rest."""
        super().data_received(data)
        self._watch(came=True)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch(came=bool(self.conn.trailing_data[0]))

    def pause_writing(self) -> None:
        """The client does not read: it has so long."""
        super().pause_writing()
        self._reading = self.loop.call_later(self.shared.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._reading:
            self._reading.cancel()
            self._reading = None

    def shutdown(self) -> None:
        """Finish what was taken, which a request is once all of it has come."""
        if self.transport.is_closing():
            return
        if self.busy and self.cycle.more_body:
            self.drop()
        else:
            with contextlib.suppress(h11.LocalProtocolError):
                super().shutdown()

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def drop(self) -> None:
        """Close the connection without another word."""
        self._forget()
        self.transport.abort()

    def _watch(self, came: bool) -> None:
        quiet = self.shared.quiet
        if self.transport.is_closing():
            self._forget()
        elif self.busy:
            quiet.pop(self, None)
            if self._asking:
                self._asking.cancel()
                self._asking = None
        else:
            quiet.setdefault(self)
            if came and self._asking is None:  # without a byte, it is a connection kept alive
                self._watch_head()

    def _watch_head(self) -> None:
        self._due = self.loop.time() + self.shared.ask_seconds
        self._asking = self.loop.call_later(self.shared.ask_seconds, self._too_late)

    def _too_late(self) -> None:
        """Drop the connection, unless it is the loop that was held up: then nothing could be read meanwhile."""
        if self.loop.time() - self._due > LATE:
            self._watch_head()
        else:
            self.drop()

    def _forget(self) -> None:
        self.shared.quiet.pop(self, None)
        for timer in (self._asking, self._reading):
            if timer:
                timer.cancel()


class Sparing(logging.Filter):
    """Lets so many alike lines through in a period, and says how many it kept back."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], list[float]] = {}
        """By logger and template: the period's start, lines let through, lines kept back."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        kind, now = (record.name, str(record.msg)[:200]), time.monotonic()
        if len(self._seen) > 1000:
            self._seen.clear()
        seen = self._seen.setdefault(kind, [now, 0, 0])
        if now - seen[0] > PERIOD:
            if seen[2]:
                record.msg = f"{record.msg} (and {seen[2]:.0f} lines like this before)"
            seen[:] = [now, 0, 0]
        seen[1] += 1
        seen[2] += seen[1] > LINES
        return seen[1] <= LINES


class _Server(uvicorn.Server):
    """Says where it listens, also where it was given the socket."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            place = f"[{host}]" if ":" in host else host
            logging.getLogger("uvicorn.error").info("Uvicorn running on http://%s:%d (Ctrl-C stops it)", place, port)


def make_server(app: Any, config: ServerConfig, **settings: Any) -> uvicorn.Server:
    """A uvicorn server for the application, with connections as above. settings: more for uvicorn."""
    limits = config.limits
    shared = Shared(min(limits.max_connections, _descriptors()), limits.header_timeout, limits.read_timeout)
    server = _Server(
        uvicorn.Config(
            app,
            host=config.host,
            port=config.port,
            access_log=False,
            http=type("Connection", (Connection,), {"shared": shared}),
            ws="none",
            backlog=BACKLOG,
            timeout_keep_alive=KEPT,
            timeout_graceful_shutdown=config.shutdown_timeout,
            server_header=False,
            **settings,
        )
    )
    sparing = Sparing()
    for name in (None, "uvicorn", "uvicorn.error", "asyncio"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(sparing)
    return server


def bind(config: ServerConfig) -> socket.socket:
    """The socket to listen on. Raises ConfigError where the address is not this machine's, or is in use."""
    try:
        family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"`host` {config.host}: not an address of this machine ({error})") from error
    try:
        if os.name != "nt":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"`host` {config.host}, `port` {config.port}: cannot listen there ({error.strerror}); choose another "
            "port (0: a free one)"
        ) from error
    bound.set_inheritable(False)
    return bound


def _descriptors() -> int:
    """Connections that the system lets this process have; as many as it may be allowed are asked for."""
    if os.name == "nt":
        return 1 << 16
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(8, soft - ROUNDS * BACKLOG - OTHER_FILES)
