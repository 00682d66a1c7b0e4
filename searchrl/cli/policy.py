"""``python -m searchrl.cli.policy``: a policy's model card, and its way to the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from searchrl.command import parse, run_command
from searchrl.errors import ConfigError, DataError, OutputError
from searchrl.files import load_json


@dataclass(frozen=True)
class PolicyConfig:
    """Write a trained policy's model card; share both on the Hugging Face hub if asked to."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A policy that train.py wrote."""
    results: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR ...")] = ()
    """Folders that eval.py wrote with it: their figures go into the card."""
    push: str | None = None
    """Upload policy and card to this repository, USER/REPO, made if missing; needs a login (hf auth login)."""
    private: bool = False
    """Make a new repository private."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.cli.policy``."""
    run_command(_policy, arguments)


def _policy(arguments: Sequence[str]) -> None:
    config = parse(PolicyConfig, arguments, "python -m searchrl.cli.policy")
    if config.private and not config.push:
        raise ConfigError("--private is about a repository: name it with --push USER/REPO")
    from searchrl.agent.checkpoint import load_policy, model_card
    from searchrl.files import write_text

    path = config.checkpoint
    card = model_card(load_policy(path), path.stem, [_results(folder) for folder in config.results])
    write_text(path.with_suffix(".md"), card)
    print(f"card: {path.with_suffix('.md')}")
    if config.push:
        print(f"policy: {_push(path, card, config.push, config.private)}")


def _results(folder: Path) -> Any:
    from searchrl.evaluation.results import RESULTS_FILE

    path = folder / RESULTS_FILE
    try:
        return load_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); name a folder that eval.py wrote") from error


def _push(path: Path, card: str, repository: str, private: bool) -> str:
    """Upload; returns the name under which ``eval.py --checkpoint`` finds the policy."""
    from huggingface_hub import CommitOperationAdd, HfApi

    from searchrl.agent.checkpoint import HUB, HUB_FILE

    card = card.replace(f"checkpoints/{path.stem}.pt", f"{HUB}{repository}")
    files = {HUB_FILE: path.read_bytes(), "README.md": card.encode()}
    try:
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        api.create_commit(
            repository,
            [CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message=f"Policy {path.stem}",
        )
    except Exception as error:  # no network, no login, no right to write: the hub's library has a type for each
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise OutputError(f"--push {repository}: {reason}; log in with: hf auth login") from error
    return HUB + repository


if __name__ == "__main__":
    main()
