"""The one command, ``searchrl``: its subcommands, each a module of this package, imported when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "train": ("train", "train a search agent"),
    "eval": ("evaluate", "compare a trained agent with fixed ways to search"),
    "search": ("search", "an answer from the shell, by a plain search or a trained agent"),
    "serve": ("serve", "the HTTP service"),
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        _print_help()
        return
    if given[0] == "--version":
        from searchrl import __version__

        print(f"searchrl {__version__}")
        return
    if given[0] == "--completion":
        from searchrl.cli.completion import completion
        from searchrl.command import run_command

        run_command(lambda shells: print(completion(shells)), given[1:])
        return
    if given[0] not in COMMANDS:
        from searchrl.errors import nearest

        print(f"error: unknown command {given[0]!r}: {nearest(given[0], COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    import_module(f"searchrl.cli.{COMMANDS[given[0]][0]}").main(given[1:])


def _print_help() -> None:
    print("usage: searchrl COMMAND ...\n")
    for name, (_, purpose) in COMMANDS.items():
        print(f"  {name:18}{purpose}")
    print("\nsearchrl COMMAND --help explains its flags; searchrl --completion bash|zsh prints a completion script.")
