"""Objects that several threads use: what is made once, and what runs one call at a time.

``functools.cached_property`` has had no lock since Python 3.12, two loads at once leave transformers broken for the
rest of the process, and a tokenizer refuses two callers at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, wraps
from typing import Any, TypeVar, overload

Made = TypeVar("Made")
Method = TypeVar("Method", bound=Callable[..., Any])

LOADING = threading.RLock()
"""Held while a model is loaded: one at a time in the whole process."""


class _Locks:
    """A lock for each object, kept only while somebody holds or awaits it: objects can still be copied and pickled."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[int, tuple[threading.RLock, int]] = {}
        """By the object's id: its lock, and how many hold or await it."""

    @contextmanager
    def held(self, instance: object) -> Iterator[None]:
        """Hold the object's lock; the same thread may do so again."""
        with self._guard:
            lock, users = self._locks.get(id(instance), (threading.RLock(), 0))
            self._locks[id(instance)] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._locks.pop(id(instance))
                if users > 1:
                    self._locks[id(instance)] = lock, users - 1


class lazy(cached_property[Made]):  # used as a decorator, like the property it extends
    """A ``cached_property`` that one thread computes; others that ask meanwhile wait, and get the same object."""

    def __init__(self, make: Callable[[Any], Made]) -> None:
        super().__init__(make)
        self._locks = _Locks()

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> lazy[Made]: ...

    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> Made: ...

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        """The value: remembered, or made now."""
        if instance is None:
            return self
        with self._locks.held(instance):
            return super().__get__(instance, owner)


_BUSY = _Locks()


def one_at_a_time(method: Method) -> Method:
    """A method that waits while another thread is in any such method of the same object."""

    @wraps(method)
    def alone(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _BUSY.held(self):
            return method(self, *args, **kwargs)

    return alone  # type: ignore[return-value]


_pauses = threading.local()


@contextmanager
def pausing(work: Callable[[], object] | None) -> Iterator[None]:
    """Let ``pause`` do ``work`` in this thread while the block runs; nothing, where it is None."""
    before = getattr(_pauses, "work", None)
    _pauses.work = work
    try:
        yield
    finally:
        _pauses.work = before


def pause() -> None:
    """Called by long computations between two of their steps: what is urgent in this thread is done meanwhile."""
    if work := getattr(_pauses, "work", None):
        work()
