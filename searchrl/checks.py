"""Checks of values that people give: types as they are declared, numbers within sensible limits."""

from __future__ import annotations

from dataclasses import is_dataclass
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from searchrl.errors import ConfigError, nearest

LARGEST, LARGEST_SEED = 1e12, 2**32 - 1
"""Of any number that is a setting, unless something else is said; and what every generator of random numbers takes."""


def typed(hint: Any, value: Any, place: str) -> Any:
    """A value as the type that a setting is declared with: lists become tuples, texts paths, NumPy's numbers Python's.

    Raises ConfigError naming ``place`` on a value of another type, or none of those to choose from.
    """
    choices = get_args(hint) or (hint,)
    if value is None and type(None) in choices:
        return None
    if Path in choices and isinstance(value, str | Path):
        return Path(value)
    if str in choices and isinstance(value, Path):
        return str(value)
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{place} is {value!r:.60}, which is not a list of {choices[0].__name__}")
        return tuple(typed(choices[0], item, f"{place}, item {i}") for i, item in enumerate(value, start=1))
    if get_origin(hint) is Literal:
        if not isinstance(value, str | int) or value not in choices:
            raise ConfigError(f"{place}: unknown value {value!r:.60}; {nearest(str(value), map(str, choices))}")
        return value
    for choice in choices:
        if is_dataclass(choice) and isinstance(choice, type) and isinstance(value, choice):
            return value
    number: Any = None if isinstance(value, bool) else value
    if int in choices and isinstance(number, Integral):
        return int(number)
    if float in choices and isinstance(number, Real):
        return number if type(value) in choices else float(number)
    if type(value) in choices:
        return value
    wanted = " or ".join("null" if c is type(None) else getattr(c, "__name__", str(c)) for c in choices)
    raise ConfigError(f"{place} is {value!r:.60}, which is not {wanted}")


def check_types(settings: Any) -> None:
    """Refuse settings of another type than they are declared with; what ``typed`` converts is converted."""
    kind: Any = type(settings)
    for name, hint in _hints(kind).items():
        object.__setattr__(settings, name, typed(hint, getattr(settings, name), f"`{name}`"))


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(kind).items() if name in kind.__dataclass_fields__}


def at_least(name: str, value: float, least: float, most: float = LARGEST) -> None:
    """Raise ConfigError where a setting is below ``least`` or absurdly large: above ``most``, infinite, not a number.

    Names in backquotes are flags to who runs a command.
    """
    if not value >= least:
        raise ConfigError(f"`{name}` {value}: must be at least {least}")
    most = min(most, LARGEST_SEED) if name.endswith("seed") else most
    if value > most:
        raise ConfigError(f"`{name}` {value}: must be at most {most:.15g}")


def above(name: str, value: float, least: float, most: float = LARGEST) -> None:
    """As ``at_least``, but ``least`` itself will not do either."""
    if not value > least:
        raise ConfigError(f"`{name}` {value}: must be above {least:g}")
    at_least(name, value, least, most)


def whole(name: str, value: object, least: int) -> int:
    """A whole number, by value: 2.0 is 2, whatever holds it. Raises ConfigError on others, or below ``least``."""
    number = 0
    try:
        number = int(value)  # type: ignore[call-overload]
        same = not isinstance(value, str | bytes | bool) and number == value
    except (TypeError, ValueError, OverflowError):
        same = False
    if not same:
        raise ConfigError(f"`{name}` {value!r:.60}: must be a whole number")
    at_least(name, number, least)
    return number


def between(name: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError where a setting lies outside ``low`` to ``high``."""
    if not low <= value <= high:
        raise ConfigError(f"`{name}` {value}: must lie between {low} and {high}")
