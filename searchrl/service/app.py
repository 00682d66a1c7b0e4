"""The service as a FastAPI application: routes, limits, errors, and what happens at start and end."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from searchrl import __version__
from searchrl.errors import ConfigError, DataError, ModelError, OutputError, SearchRLError
from searchrl.extras import MCP, is_installed
from searchrl.search.corpus import Agent
from searchrl.search.services import Services
from searchrl.service import ServerConfig, openai, rerank, retrieve
from searchrl.service.middleware import CLOSED, AccessControl, CountRequests, Disconnect, SafeHeaders
from searchrl.service.routes import router
from searchrl.service.service import Service
from searchrl.service.upload import Refused
from searchrl.service.wire import problem

if TYPE_CHECKING:
    from searchrl.service.mcp import Tools

logger = logging.getLogger(__name__)

FAULTS = 10
"""Of a request, that are told."""


def make_service(config: ServerConfig) -> Service:
    """Models, agent and corpora by their settings; what is missing or damaged is said now."""
    from searchrl.config import GameConfig
    from searchrl.experiment.parts import lm_name, make_encoder, make_loader, make_reward_model

    models, game = config.models, GameConfig(reward="head" if config.models.reward_model else "lm")
    loader = make_loader(models)
    encoder, reward = make_encoder(models, loader.device), make_reward_model(models, game, loader)
    assert reward is not None
    # Not the reward model's: that may read likelihoods in 8-bit integers, too rough to write with, and writes a line.
    lm = loader.language_model(lm_name(models), "chat")
    agent = Agent(config.checkpoint, models, encoder) if config.checkpoint else None
    # On mps concurrent calls abort; elsewhere searches need not wait for the language model at all.
    threads: Literal[1, 2] = 1 if loader.device.device == "mps" else 2
    service = Service(config, Services(None, lm, encoder, scorer=reward, engine=loader), agent, threads)
    encoder.encode(["ready"])  # last, because it takes longest to find out
    return service


def create_app(service: Service, config: ServerConfig, token: str | None = None) -> FastAPI:
    """An ASGI application around a service, which it starts and closes. token: what clients must send, if anything."""

    tools = _tools(service, config.hosts)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        opening = service.start()
        if config.read_only:  # one of several: nobody may be sent here before it can answer
            await opening
        async with tools.running() if tools else nullcontext():
            yield
        await service.close()

    app = FastAPI(title="SearchRL", version=__version__, lifespan=lifespan, redoc_url=None)
    app.state.service = service
    for routes in (router, retrieve.router, rerank.router, openai.router):
        app.include_router(routes)
    if tools:
        app.router.routes.extend(tools.routes)
    app.add_middleware(Disconnect)
    limits = config.limits
    app.add_middleware(
        AccessControl,
        hosts=config.hosts,
        token=token,
        max_body=limits.max_body,
        body_seconds=limits.body_timeout,
        larger={retrieve.PATH: limits.max_rollout * retrieve.QUERY_BYTES},
    )
    app.add_middleware(SafeHeaders)
    app.add_middleware(CountRequests, metrics=service.metrics)
    for kind, answer in {
        RequestValidationError: _invalid,
        Refused: _refused,
        ClientDisconnect: _gone,
        SearchRLError: _our_error,
        HTTPException: _http_error,
        Exception: _unexpected,
    }.items():
        app.add_exception_handler(kind, answer)
    return app


def _tools(service: Service, hosts: Collection[str]) -> Tools | None:
    """The tools of /mcp, where the SDK is installed."""
    if not is_installed(MCP):
        return None
    from searchrl.service.mcp import Tools

    return Tools(service, hosts)


async def _invalid(request: Request, error: Any) -> Response:
    """What is wrong and where, without the value, which may be large, secret, or no valid text.

    A body that does not say that it is JSON is not read as such: a web page of others can send one here.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and kind != "application/json" and not kind.endswith("+json"):
        return problem(request.url.path, 415, "the body must be JSON: send the header Content-Type: application/json")
    faults = [
        {"loc": [_printable(place) for place in fault["loc"]], "msg": _printable(fault["msg"]), "type": fault["type"]}
        for fault in error.errors()[:FAULTS]
    ]
    return problem(request.url.path, 422, faults)


async def _refused(request: Request, error: Any) -> Response:
    headers = {"Retry-After": str(max(1, math.ceil(error.retry_after)))} if error.status in (429, 503) else None
    headers = CLOSED if error.status in (408, 413) else headers
    return problem(request.url.path, error.status, _printable(str(error)), headers)


async def _gone(request: Request, error: Any) -> Response:
    return problem(request.url.path, 400, "the client went away")


async def _our_error(request: Request, error: Any) -> Response:
    """A user's mistake is 422; what this machine or another server lacks is 503, or 507 where the disk is at fault."""
    if isinstance(error, (DataError, ConfigError, ModelError)):
        faults = [{"loc": ["body"], "msg": _printable(str(error)), "type": type(error).__name__}]
        return problem(request.url.path, 422, faults)
    logger.error("%s", error)
    return problem(request.url.path, 507 if isinstance(error, OutputError) else 503, _printable(str(error)))


async def _http_error(request: Request, error: Any) -> Response:
    return problem(request.url.path, error.status_code, error.detail, error.headers)


async def _unexpected(request: Request, error: Any) -> Response:
    return problem(request.url.path, 500, "an error in the service, which its log describes")


def _printable(value: Any) -> Any:
    """Half a surrogate pair, which JSON can smuggle in, cannot be sent back."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
