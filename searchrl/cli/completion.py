"""Shell completion of ``searchrl``: commands, the stages of those that have them, and flags."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from importlib import import_module

from searchrl.cli import COMMANDS, main
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
    cases = "\n".join(
        f'    {name}) words="{" ".join(_words(name, module))}" ;;' for name, (module, _) in COMMANDS.items()
    )
    return SCRIPT.format(start=start, cases=cases, commands=" ".join(COMMANDS))


def _words(name: str, module: str) -> list[str]:
    """Stages and flags of a command, as its help tells them."""
    stages: dict[str, object] = getattr(import_module(f"searchrl.cli.{module}"), "STAGES", {})
    told = "".join(_help([name, stage]) for stage in stages) if stages else _help([name])
    return [*stages, *dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", told))]


def _help(words: Sequence[str]) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return shown.getvalue()
