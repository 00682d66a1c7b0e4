"""ASGI middleware: who hangs up is not worked for; what of theirs waits in the queue is dropped (``batching.py``)."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GONE = 499
"""The status that is counted for such a request; nobody receives it. nginx's number for it."""


class Disconnect:
    """Cancels the answer to a request whose client went away after it was read; uploads watch for that themselves."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, unless the client goes first."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        was_read = asyncio.Event()

        async def reading() -> Message:
            message = await receive()
            if not message.get("more_body"):
                was_read.set()
            return message

        async def gone() -> None:
            await was_read.wait()
            while (await receive())["type"] != "http.disconnect":
                pass

        answer = asyncio.ensure_future(self._app(scope, reading, send))
        watch = asyncio.ensure_future(gone())
        try:
            await asyncio.wait((answer, watch), return_when=asyncio.FIRST_COMPLETED)
        finally:  # also where the service itself is told to stop
            watch.cancel()
            if not answer.done():
                answer.cancel()
        try:
            await answer
        except asyncio.CancelledError:
            await Response(status_code=GONE)(scope, receive, send)
