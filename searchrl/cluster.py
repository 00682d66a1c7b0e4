"""Ray, where it is wanted: one connection a process, and workers that each hold one object and answer for it.

The only file that knows Ray's calls; nothing else of SearchRL imports it.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from searchrl.config import RayConfig
from searchrl.errors import EngineError, SearchRLError, reason
from searchrl.extras import needs

LOCAL_STORE = 1 << 30
"""Bytes of shared memory that the processes of this machine may use for what they exchange."""
ATTEMPTS = 3
"""Times that a request is given to a worker; when all of them died on it, it is the request's fault."""


class Request(NamedTuple):
    """A call of a worker's object."""

    method: str
    args: tuple[Any, ...]
    named: Mapping[str, Any] = {}


def connect(config: RayConfig) -> Any:
    """The module ``ray``, connected. Raises ConfigError where the extra is missing, EngineError without a cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # on a machine that is busy, nice workers hardly run
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # none that nobody asked for
    with needs("ray"):
        import ray
    if ray.is_initialized():
        return ray
    try:
        if config.ray == "local":
            # What encodes, judges and writes each have workers; the system has them take turns on its CPUs.
            cpus = (os.cpu_count() or 1) + 3 * math.ceil(config.ray_workers * config.ray_cpus)
            store = LOCAL_STORE
            ray.init(num_cpus=cpus, object_store_memory=store, include_dashboard=False, log_to_driver=False)
        else:
            ray.init(address=config.ray, log_to_driver=False)
    except Exception as error:  # a start that takes too long has no kind of its own
        raise EngineError(
            f"Ray at {config.ray}: {reason(error)}; give a running cluster's address with `ray`, or `ray` local"
        ) from error
    return ray


class _Worker:
    """Runs in a process of its own. The object is made when the first call comes."""

    def __init__(self, make: Callable[[], Any], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._make, self._object = make, None

    def call(self, request: Request) -> Any:
        """What the object answers."""
        if self._object is None:
            self._object = self._make()
        found = getattr(self._object, request.method)
        return found(*request.args, **request.named) if callable(found) else found


class Pool:
    """Workers that are alike. A request goes to whichever is free; a worker that dies is replaced, and what it had in
    hand is done again.

    make: makes the object that answers; sent to the workers as it is. Raises what ``connect`` raises.
    """

    def __init__(self, make: Callable[[], Any], config: RayConfig) -> None:
        self._ray = connect(config)
        self._make, self._config = make, config
        self.workers = config.ray_workers
        """How many there are."""
        self._actors = [self._start() for _ in range(self.workers)]

    def _start(self) -> Any:
        config = self._config
        resources = {"num_cpus": config.ray_cpus, "num_gpus": config.ray_gpus}
        return self._ray.remote(**resources)(_Worker).remote(self._make, max(1, int(config.ray_cpus)))

    def ask(self, method: str, *args: Any, **named: Any) -> Any:
        """One call, or one attribute, of the workers' object."""
        return next(self.each([Request(method, args, named)]))[1]

    def each(self, requests: Sequence[Request]) -> Iterator[tuple[int, Any]]:
        """Place and answer of every request, as they come. Raises what an object raises, and EngineError where workers
        die on the same request again and again.
        """
        todo, attempts = deque(range(len(requests))), [0] * len(requests)
        busy: dict[Any, tuple[int, int]] = {}
        free = deque(range(self.workers))
        while todo or busy:
            while todo and free:
                place, worker = todo.popleft(), free.popleft()
                attempts[place] += 1
                busy[self._actors[worker].call.remote(requests[place])] = worker, place
            ready, _ = self._ray.wait(list(busy), num_returns=1)
            worker, place = busy.pop(ready[0])
            free.append(worker)
            try:
                answer = self._ray.get(ready[0])
            except self._ray.exceptions.RayActorError as error:
                self._actors[worker] = self._start()
                if attempts[place] == ATTEMPTS:
                    raise EngineError(f"{ATTEMPTS} Ray workers died on one request ({reason(error)})") from error
                todo.appendleft(place)
            except self._ray.exceptions.RayTaskError as error:
                raise _own(error) from error
            else:
                yield place, answer

    def close(self) -> None:
        """End the workers."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []


def tasks(
    function: Callable[..., Any], shared: Any, each: Sequence[tuple[Any, ...]], config: RayConfig
) -> Iterator[Any]:
    """``function(shared, *arguments)`` for all arguments, as tasks of a cluster; results in order.

    shared: sent once, into the object store. A task whose process dies is done again. Raises what a task raises.
    """
    ray = connect(config)
    held = ray.put(shared)
    task = ray.remote(num_cpus=config.ray_cpus, num_gpus=config.ray_gpus, max_retries=ATTEMPTS - 1)(function)
    waiting = [task.remote(held, *arguments) for arguments in each]
    try:
        for one in waiting:
            try:
                yield ray.get(one)
            except ray.exceptions.RayTaskError as error:
                raise _own(error) from error
            except ray.exceptions.RayError as error:
                raise EngineError(f"Ray at {config.ray}: {reason(error)}") from error
    finally:
        for one in waiting:
            ray.cancel(one, force=True)


def _own(error: Any) -> Exception:
    """The error as the worker raised it."""
    cause = error.cause
    if isinstance(cause, SearchRLError):
        return cause
    return EngineError(f"a Ray worker failed: {reason(cause) if isinstance(cause, Exception) else reason(error)}")
