"""The service as a FastAPI application: routes, limits, errors, and what happens at start and end."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from searchrl import __version__
from searchrl.errors import ConfigError, DataError, ModelError, OutputError, SearchRLError
from searchrl.search.corpus import Agent
from searchrl.search.services import Services
from searchrl.service import ServerConfig
from searchrl.service.middleware import CLOSED, AccessControl, CountRequests, Disconnect, SafeHeaders
from searchrl.service.routes import router
from searchrl.service.service import Service
from searchrl.service.upload import Refused

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

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.close()

    app = FastAPI(title="SearchRL", version=__version__, lifespan=lifespan, redoc_url=None)
    app.state.service = service
    app.include_router(router)
    app.add_middleware(Disconnect)
    limits = config.limits
    app.add_middleware(
        AccessControl, hosts=config.hosts, token=token, max_body=limits.max_body, body_seconds=limits.body_timeout
    )
    app.add_middleware(SafeHeaders)
    app.add_middleware(CountRequests, metrics=service.metrics)
    for kind, answer in {
        RequestValidationError: _invalid,
        Refused: _refused,
        ClientDisconnect: _gone,
        SearchRLError: _our_error,
        Exception: _unexpected,
    }.items():
        app.add_exception_handler(kind, answer)
    return app


def _problem(status: int, detail: Any, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


async def _invalid(request: Request, error: Any) -> JSONResponse:
    """What is wrong and where, without the value, which may be large, secret, or no valid text.

    A body that does not say that it is JSON is not read as such: a web page of others can send one here.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and kind != "application/json" and not kind.endswith("+json"):
        return _problem(415, "the body must be JSON: send the header Content-Type: application/json")
    faults = [
        {"loc": [_printable(place) for place in fault["loc"]], "msg": _printable(fault["msg"]), "type": fault["type"]}
        for fault in error.errors()[:FAULTS]
    ]
    return _problem(422, faults)


async def _refused(_: Request, error: Any) -> JSONResponse:
    headers = {"Retry-After": str(max(1, math.ceil(error.retry_after)))} if error.status in (429, 503) else None
    return _problem(error.status, _printable(str(error)), CLOSED if error.status in (408, 413) else headers)


async def _gone(_: Request, error: Any) -> JSONResponse:
    return _problem(400, "the client went away")


async def _our_error(_: Request, error: Any) -> JSONResponse:
    """A user's mistake is 422; what this machine or another server lacks is 503, or 507 where the disk is at fault."""
    if isinstance(error, (DataError, ConfigError, ModelError)):
        faults = [{"loc": ["body"], "msg": _printable(str(error)), "type": type(error).__name__}]
        return _problem(422, faults)
    logger.error("%s", error)
    return _problem(507 if isinstance(error, OutputError) else 503, _printable(str(error)))


async def _unexpected(_: Request, error: Any) -> JSONResponse:
    return _problem(500, "an error in the service, which its log describes")


def _printable(value: Any) -> Any:
    """Half a surrogate pair, which JSON can smuggle in, cannot be sent back."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
