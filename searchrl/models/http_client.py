"""Asks a model server over HTTP: so many requests at a time, again after a failure, and one clear error in the end.

``ServedModel`` is the base of all that ask one: which model it is, and what the server says about it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from searchrl.checks import above, at_least
from searchrl.errors import ConfigError, EngineError, SearchRLError
from searchrl.models.answers import AnswerT, ModelList, decode
from searchrl.threads import lazy

if TYPE_CHECKING:
    from searchrl.models.http_wire import Reply


logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")

LONGEST_WAIT = 30.0
"""Seconds between two attempts at most, also where the server asks for more."""


class HttpClient:
    """A connection to one server, shared by threads.

    base_url: with or without the ``/v1`` that OpenAI's clients want. concurrency: requests in flight at most. timeout:
    seconds until a request counts as failed. attempts, backoff: connection errors, timeouts, 429 and 5xx are tried
    again after about ``backoff``, twice that, four times that, ... seconds. Raises ConfigError where one cannot be.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        concurrency: int = 8,
        timeout: float = 120.0,
        attempts: int = 6,
        backoff: float = 0.5,
    ) -> None:
        self.base_url = _normal(base_url)
        at_least("concurrency", concurrency, 1)
        at_least("attempts", attempts, 1)
        above("timeout", timeout, 0.0)
        at_least("backoff", backoff, 0.0)
        from searchrl.models.http_wire import Wire

        self.concurrency = concurrency
        self._attempts = attempts
        self._backoff = backoff
        # Not seeded on purpose: clients that failed together must not come back together. It shapes no result.
        self._jitter = random.Random()
        self._wire = Wire({"Authorization": f"Bearer {api_key}"} if api_key else {}, timeout, concurrency)

    def close(self) -> None:
        """Close all connections."""
        self._wire.close()

    def get(self, path: str, schema: type[AnswerT]) -> AnswerT:
        """What is at a path such as ``/v1/models``. Raises EngineError as ``post`` does."""
        return self._ask("GET", path, None, schema)

    def post(self, path: str, body: Mapping[str, Any], schema: type[AnswerT]) -> AnswerT:
        """What answers a JSON body.

        Raises EngineError where the server is not there, keeps failing, refuses, or answers with something else than
        the schema has; ``MissingEndpoint`` where it has no such path.
        """
        return self._ask("POST", path, body, schema)

    def each(self, items: Sequence[Item], work: Callable[[Item], Answer]) -> list[Answer]:
        """``work`` (never None) on every item, ``concurrency`` at a time, in the order of the items.

        At the first error nothing more is begun and what is under way is waited for. An EngineError then carries all
        that was answered (``EngineError.answered``).
        """
        failed = threading.Event()

        def guarded(item: Item) -> Answer | None:
            if failed.is_set():
                return None
            try:
                return work(item)
            except SearchRLError:
                failed.set()
                raise

        answers: dict[int, Any] = {}
        failure: SearchRLError | None = None
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="searchrl-http")
        try:
            places = {pool.submit(guarded, item): i for i, item in enumerate(items)}
            for future in as_completed(places):
                try:
                    answer = future.result()
                except SearchRLError as error:
                    failure = failure or error
                else:
                    if answer is not None:
                        answers[places[future]] = answer
        except BaseException:  # Ctrl-C, or a fault of ours: requests in flight must not hold the process up
            failed.set()
            self.close()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if isinstance(failure, EngineError):
            raise type(failure)(str(failure), answers) from failure
        if failure:
            raise failure
        return [answers[i] for i in range(len(items))]

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None, schema: type[AnswerT]) -> AnswerT:
        from searchrl.models.http_wire import Oversized, Unanswered

        url = self.base_url + path
        for attempt in range(1, self._attempts + 1):
            wait: float | None = None
            try:
                reply = self._wire.ask(method, url, body)
            except Unanswered as error:
                problem = f"does not answer ({error})"
            except Oversized as error:
                raise EngineError(f"the model server {url} answers with {error}") from error
            else:
                if reply.status != 429 and reply.status < 500:
                    return _read(url, reply, schema)
                problem = f"fails with {_said(reply)}"
                wait = retry_after(reply.headers.get("retry-after", ""))
            if attempt < self._attempts:
                pause = self._pause(attempt) if wait is None else wait
                logger.debug("%s %s; again in %.1f s", url, problem, pause)
                time.sleep(pause)
        raise EngineError(
            f"the model server {url} {problem}, {self._attempts} times; see that it runs and that the base "
            "URL is right, then start again: answers so far are kept in the cache"
        )

    def _pause(self, attempt: int) -> float:
        return min(self._backoff * 2.0 ** (attempt - 1) * self._jitter.uniform(0.5, 1.5), LONGEST_WAIT)


class MissingEndpoint(EngineError):
    """The server has no such path."""


def key_from(variable: str | None) -> str | None:
    """The key in an environment variable; None where none is named. Raises ConfigError where it is empty."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"api_key_env: the environment variable {variable} is not set; put the server's key there")
    return key


def _normal(base_url: str) -> str:
    import httpx

    try:
        parts = httpx.URL(base_url)
    except httpx.InvalidURL:
        parts = httpx.URL("")
    if parts.userinfo:
        raise ConfigError("the base URL holds a password; name an environment variable with the key instead")
    whole = parts.scheme in ("http", "https") and parts.host and (parts.port or 0) < 1 << 16
    if not whole or parts.query or parts.fragment:
        raise ConfigError(f"the base URL {base_url!r} is not an address such as http://127.0.0.1:8000")
    return base_url.rstrip("/").removesuffix("/v1")


def _read(url: str, reply: Reply, schema: type[AnswerT]) -> AnswerT:
    status = reply.status
    if status in (404, 405, 501):
        raise MissingEndpoint(f"the model server does not offer {url}: {_said(reply)}")
    if status in (401, 403):
        raise EngineError(
            f"the model server {url} refuses the key ({status}): put the right one into the environment variable "
            "that is named for it"
        )
    if status != 200:
        raise EngineError(f"the model server {url} refuses the request: {_said(reply)}")
    return decode(schema, reply.content, url)


def _said(reply: Reply) -> str:
    """Status and message, in whichever of the usual places the server puts it, in one line."""
    said: Any = reply.content.decode("utf-8", "backslashreplace")
    with suppress(ValueError, RecursionError):
        said = json.loads(said)
    while isinstance(said, Mapping):
        said = next((said[key] for key in ("error", "message", "detail") if key in said), f"{dict(said)}")
    return f"{reply.status} {' '.join(str(said)[:1000].split())[:300]}".rstrip().encode("utf-8", "replace").decode()


def retry_after(value: str) -> float | None:
    """Seconds that the server asks to wait, said as such or as a date (RFC 9110, 10.2.3)."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return min(float(value[:9]), LONGEST_WAIT)
    try:
        then = parsedate_to_datetime(value)
        then = then if then.tzinfo else then.replace(tzinfo=UTC)  # all HTTP dates are in UTC
        return min(max((then - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_WAIT)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


FLEETING = {"created", "permission"}
"""What /v1/models says that differs from one start of the server to the next."""


@dataclass(frozen=True)
class ServedFacts:
    """A model as /v1/models lists it."""

    name: str
    server: str
    """Who serves it, where that is said: ``vllm``, ``llamacpp``, ``sglang``, ..."""
    parameters: int | None
    """Number of weights, where that is said (llama.cpp does)."""
    fingerprint: str
    """16 hex digits over address, name and all that the server says about the model. A server that gets other weights
    under the same name is not told apart, unless it says their size or path."""


class ServedModel:
    """A model behind a server, which is first asked when something is needed of it.

    model: its name on the server; by default the only one served. connection: as ``HttpClient`` takes it. Raises
    ConfigError on an impossible setting; at the first call, EngineError where the server does not answer.
    """

    def __init__(self, base_url: str, model: str | None = None, **connection: Any) -> None:
        self._client = HttpClient(base_url, **connection)
        self._model = model

    @lazy
    def served(self) -> ServedFacts:
        """What the server says about the model."""
        return served_facts(self._client, self._model)

    @property
    def name(self) -> str:
        """The model's name on the server."""
        return self.served.name

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def served_facts(client: HttpClient, name: str | None) -> ServedFacts:
    """Look up the model of that name, or the only one there is.

    Raises EngineError where none is named and the server serves several or none. A name that is not listed is left for
    the server to accept: some load a model when it is first asked for.
    """
    try:
        listed = {entry.id: entry for entry in client.get("/v1/models", ModelList).data}
    except MissingEndpoint:
        if name is None:
            raise
        listed = {}
    if name is None:
        if len(listed) != 1:
            says = f"serves {', '.join(listed)[:300]}" if listed else "does not say what it serves"
            raise EngineError(f"{client.base_url} {says}: name the model (engine_model)")
        name = next(iter(listed))
    facts = listed.get(name)
    said = facts.model_dump(exclude_unset=True) if facts else {}
    lasting = {key: value for key, value in said.items() if key not in FLEETING}
    text = json.dumps([client.base_url, name, lasting], sort_keys=True)
    return ServedFacts(
        name=name,
        server=facts.owned_by or "" if facts else "",
        parameters=facts.parameters if facts else None,
        fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16],
    )
