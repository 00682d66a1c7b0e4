"""Settings as JSON: what a run records of them, read back and compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from searchrl.checks import typed
from searchrl.config import TrainConfig
from searchrl.errors import ConfigError, nearest, reason
from searchrl.files import load_json, unsealed

Settings = TypeVar("Settings")


def to_json(settings: Any) -> dict[str, Any]:
    """A settings dataclass as plain JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(settings), default=str))
    return values


def from_json(kind: type[Settings], values: Mapping[str, Any], source: str) -> Settings:
    """Rebuild settings from what ``to_json`` made. Raises ConfigError naming ``source`` and the field at fault."""
    hints = get_type_hints(kind)
    chosen = {}
    for name, value in values.items():
        if name not in hints:
            raise ConfigError(f"{source}: unknown setting {name!r}; {nearest(name, hints)}")
        if not is_dataclass(hints[name]):
            chosen[name] = typed(hints[name], value, f"{source}: {name}")
        elif isinstance(value, Mapping):
            chosen[name] = from_json(hints[name], value, source)
        else:
            raise ConfigError(f"{source}: {name!r} must be an object of settings, not {value!r}")
    try:
        return kind(**chosen)  # all at once: some settings are right only together
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def read_config(path: Path) -> TrainConfig:
    """Read the settings that a run wrote, to be used for another run: of where results go, only the folders.

    Raises ConfigError when the file is not what ``to_json`` makes.
    """
    try:
        values = load_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the config.json of a run") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({reason(error)}); give the config.json of a run") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not an object of settings; give the config.json of a run")
    try:
        values = unsealed(values)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    for record in ("computed", "inputs"):  # no settings
        values.pop(record, None)
    config = from_json(TrainConfig, values, str(path))
    return replace(config, output=replace(config.output, run_name=None, overwrite=False, resume=False))


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings in which two ``to_json`` results differ, as ``learning.lr: 0.0003 then, 0.001 now``."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before!r} then, {after!r} now")
    return found
