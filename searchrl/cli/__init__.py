"""The one command, ``searchrl``: its subcommands, each a module of this package, imported when it is asked for."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from searchrl.command import parse, run_command
from searchrl.errors import ConfigError, nearest

COMMANDS = {
    "tune": ("tune", "from your documents to a search that was measured on them"),
    "train": ("train", "train a search agent"),
    "eval": ("evaluate", "compare a trained agent with fixed ways to search"),
    "search": ("search", "an answer from the shell, by a plain search or a trained agent"),
    "serve": ("serve", "the HTTP service"),
    "mcp": ("mcp", "the service's tools for an assistant, over stdio"),
    "generate-queries": ("generate_queries", "have a language model write queries to train on"),
    "fit": ("fit", "fit a reward model: from documents to preferences to LoRA"),
    "tags": ("tags", "tags of documents, a tree of them, and search down the tree"),
    "beir": ("beir", "embed, rerank, measure: BEIR evaluation in stages"),
    "compare": ("compare", "compare TREC runs, whoever made them"),
    "policy": ("policy", "a policy's model card; share it on the hub"),
    "benchmark": ("benchmark", "what this machine does in a second (in a clone)"),
    "cache": ("cache", "what is kept between commands"),
}
"""Command -> its module, and what it is for."""

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print("usage: searchrl COMMAND ...\n")
        for name, (_, purpose) in COMMANDS.items():
            print(f"  {name:18}{purpose}")
        print(
            "\nsearchrl COMMAND --help explains its flags; searchrl --completion bash|zsh prints a completion script."
        )
    elif given[0] == "--version":
        from searchrl import __version__

        print(f"searchrl {__version__}")
    elif given[0] == "--completion":
        run_command(lambda shells: print(completion(shells)), given[1:])
    elif given[0] not in COMMANDS:
        print(f"error: unknown command {given[0]!r}: {nearest(given[0], COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    else:
        import_module(f"searchrl.cli.{COMMANDS[given[0]][0]}").main(given[1:])


Stages = Mapping[str, tuple[type[Any], Callable[[Any], None]]]
"""Stage of a command -> its settings, and what does it."""


def do_stage(command: str, stages: Stages, arguments: Sequence[str]) -> None:
    """Do the stage that is asked for, or list them all. Raises ConfigError on a name that is not there."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: searchrl {command} STAGE ...\n")
        width = max(map(len, stages)) + 2
        for name, (kind, _) in stages.items():
            print(f"  {name:{width}}{(kind.__doc__ or '').splitlines()[0]}")
        return
    stage = arguments[0].replace("-", "_")
    if stage not in stages:
        raise ConfigError(f"unknown stage {arguments[0]!r}: {nearest(stage, stages)}")
    kind, do = stages[stage]
    do(parse(kind, arguments[1:], f"searchrl {command} {stage}"))


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
    shown = io.StringIO()
    for words in [[name, stage] for stage in stages] or [[name]]:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            main([*words, "--help"])
    return [*stages, *dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", shown.getvalue()))]
