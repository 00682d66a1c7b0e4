"""Shell completion of ``searchrl``: commands, the stages of those that have them, and flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any

from searchrl.cli import COMMANDS
from searchrl.errors import ConfigError

SHELLS = ("bash", "zsh")
SCRIPT = """{start}_searchrl() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" words=""
    case "${{COMP_WORDS[1]}}" in
{cases}
    *) words="{commands}" ;;
    esac
    [ "$COMP_CWORD" -eq 1 ] && words="{commands}"
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _searchrl searchrl"""


def completion(arguments: Sequence[str]) -> str:
    """A script for one of ``SHELLS``: ``source <(searchrl --completion bash)``. Raises ConfigError on another."""
    shell = arguments[0] if arguments else ""
    if shell not in SHELLS:
        raise ConfigError(f"completion {shell!r}: name a shell, {' or '.join(SHELLS)}")
    start = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    cases = "\n".join(f'    {name}) words="{" ".join(_words(module))}" ;;' for name, (module, _) in COMMANDS.items())
    return SCRIPT.format(start=start, cases=cases, commands=" ".join(COMMANDS))


def _words(module: str) -> list[str]:
    """Stages and flags of a command."""
    from searchrl.config import TrainConfig

    found = import_module(f"searchrl.cli.{module}")
    stages: dict[str, Any] = getattr(found, "STAGES", {})
    kinds = [entry[0] if isinstance(entry, tuple) else entry for entry in stages.values()]
    if module == "train":
        kinds = [TrainConfig]
    elif not kinds:
        kinds = [kind for name, kind in vars(found).items() if name.endswith("Config") and _is_flags(kind, found)]
    flags = {flag: None for kind in kinds if is_dataclass(kind) for flag in _flags(kind)}
    return [*stages, *flags]


def _is_flags(kind: Any, module: Any) -> bool:
    """Whether a settings class is the command's own: made in its module, or in the one that holds the flags."""
    return is_dataclass(kind) and kind.__module__ in (
        module.__name__,
        "searchrl.cli.settings",
        "searchrl.service.config",
    )


def _flags(kind: Any) -> list[str]:
    import tyro

    parser = tyro.extras.get_parser(kind, config=(tyro.conf.OmitArgPrefixes,))
    return [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
