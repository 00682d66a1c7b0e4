"""ASGI middleware: who may ask (host names, bearer token), and how large a request's body may be."""

from __future__ import annotations

import hmac
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = frozenset({"/", "/page.css", "/page.js", "/healthz", "/readyz", "/docs", "/openapi.json"})
"""What says nothing about any corpus, and is answered without a token."""

UPLOADS = "/corpora/"
"""Uploads have a limit of their own (``upload.py``)."""


class Gate:
    """Refuses a request before anything reads it.

    hosts: names that the Host header may give, empty for any. On loopback this keeps a web page from reaching the
    service through a name of its own that resolves to this machine (DNS rebinding). token: what the header
    ``Authorization: Bearer`` must carry, None for nothing. max_body: bytes.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], token: str | None, max_body: int) -> None:
        self._app = app
        self._hosts = hosts
        self._token = token
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 400, 401 or 413, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self._hosts and _host_name(headers.get("host", "")) not in self._hosts:
            refusal = _refusal(400, "this Host is not served here; see --host")
        elif self._token is not None and scope["path"] not in OPEN and not self._knows(headers):
            refusal = _refusal(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})
        elif scope["method"] == "PUT" and scope["path"].startswith(UPLOADS):
            return await self._app(scope, receive, send)
        elif _length(headers) > self._max_body:
            refusal = _refusal(413, self._too_large)
        else:
            return await self._app(scope, self._counted(receive), send)
        await refusal(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        known = hmac.compare_digest(given.strip().encode("latin-1"), (self._token or "").encode())
        return known and scheme.lower() == "bearer"

    def _counted(self, receive: Receive) -> Receive:
        """For bodies that do not say how long they are."""
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body:
                raise HTTPException(413, self._too_large)
            return message

        return counted

    @property
    def _too_large(self) -> str:
        return f"more than {self._max_body} bytes; ask in several requests, or raise --max-body"


def _refusal(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    # The body was not read, so the connection cannot be used again.
    return JSONResponse({"detail": detail}, status, {**(headers or {}), "Connection": "close"})


def _length(headers: Headers) -> int:
    given = headers.get("content-length", "0")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 20 else 0


def _host_name(host: str) -> str:
    """The Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
