"""The documentation keeps its word: its Python runs, its commands exist with the flags that it gives them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

from searchrl import cli
from searchrl.errors import ConfigError
from tests.command import REPOSITORY, Shell

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
PAGES = [page for page in PAGES if page.name != "LOG.md"]
"""The log tells of the past: its commands are of their time."""

FOREIGN = {"curl", "echo", "source", "tensorboard", "uv", "pip", "pre-commit", "cd", "git"}
"""Programs of others, which these tests do not start."""


SEARCHRL = ("-c", "from searchrl.cli import main; main()")
"""The command ``searchrl``, with this interpreter and this source."""


class Block(NamedTuple):
    """A fenced block: where it stands, in which language, and what it says."""

    place: str
    language: str
    text: str


def blocks(language: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            if match[1] == language:
                line = text[: match.start()].count("\n") + 1
                found.append(Block(f"{page.relative_to(REPOSITORY)}:{line}", match[1], match[2]))
    return found


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line: where it stands, and its words up to a pipe or a comment."""
    for block in blocks("sh"):
        for line in block.text.replace("\\\n", " ").replace("|\n", "| ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield block.place, words[: words.index("|")] if "|" in words else words


COMMANDS = [(place, words) for place, words in commands() if words[0] not in FOREIGN]


@cache
def help_of(program: tuple[str, ...]) -> str:
    """What ``--help`` says, in a process of its own, as a user would see it."""
    environment = os.environ | {"COLUMNS": "200", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, *program, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def program_of(words: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """How to start a command with this interpreter, and its arguments."""
    if words[0] in ("python", "python3"):
        program, rest = (tuple(words[1:3]), words[3:]) if words[1] == "-m" else ((words[1],), words[2:])
        return program, rest
    assert words[0] == "searchrl", f"{words[0]}: neither SearchRL's nor known to be foreign"
    words = [word for word in words if word not in ("--help", "COMMAND", "STAGE")]
    stages = 2 if words[1:2] and words[1] in ("beir", "fit", "tags") else 1
    return (*SEARCHRL, *words[1 : 1 + stages]), words[1 + stages :]


@pytest.mark.parametrize(("place", "words"), COMMANDS, ids=[f"{p} {' '.join(w)[:60]}" for p, w in COMMANDS])
def test_a_command_has_the_flags_that_the_page_gives_it(place: str, words: list[str]) -> None:
    if words[0] == "make":
        makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in words[1:]), words
        return
    program, arguments = program_of([word for word in words if word != "..."])
    told = help_of(program)
    for flag in (word for word in arguments if re.match(r"--[a-z]", word)):
        name = flag.partition("=")[0].replace("_", "-")
        assert re.search(rf"{name}\b(?!-)", told.replace("_", "-")), f"{place}: {program} has no {flag}"


SNIPPETS = [block for block in blocks("python") if "clients.md" not in block.place]
"""All but those that ask a service: ``tests/service/test_clients_page.py`` has one."""


@pytest.mark.parametrize("block", SNIPPETS, ids=[block.place for block in SNIPPETS])
def test_python_of_the_documentation_runs(block: Block, shell: Shell, small_folder: Path) -> None:
    """In a process of its own and an empty folder; pydocs is swapped for a corner of it, for speed."""
    for module in re.findall(r"^from (searchrl\.connect\.\w+)", block.text, re.MULTILINE):
        try:
            import_module(module)
        except ConfigError as error:  # its tool is not installed
            pytest.skip(str(error))
    code = block.text.replace('"pydocs"', repr(str(small_folder)))
    environment = shell.environment | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=shell.folder, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr


EPISODES = ["--device", "cpu", "--judge-depth", "0", "--episodes", "640", "--eval-every", "320"]
RUN = {  # as they stand in the documentation -> what is added so that they are quick
    "searchrl train --dataset path/to/beir/folder --reward qrels": EPISODES,
    "searchrl train --sweep step_penalty=0,.01,.05 --reward qrels": [*EPISODES, "--dataset", "path/to/beir/folder"],
    "searchrl eval --dataset path/to/beir/folder": ["--device", "cpu", "--output-dir", "results"],
    "searchrl policy checkpoints/policy_final.pt": [],
    "searchrl compare a.run b.run --qrels path/to/beir/folder --measure AP --also P@5 RR@10 ERR@20": [],
    "searchrl cache": [],
}


def test_cheap_commands_run_one_after_the_other(shell: Shell, small_folder: Path) -> None:
    written = {" ".join(words) for _, words in COMMANDS}
    for command, more in RUN.items():
        assert command in written, "say here what the documentation says"
        words = [*shlex.split(command), *more]
        words = [str(small_folder) if word == "path/to/beir/folder" else word for word in words]
        _, name, *arguments = words
        outcome = shell._run(cli.main, [name, *arguments])
        assert outcome.ok.out, command
        if name == "eval":
            for run, method in (("a.run", "single_pass"), ("b.run", "rl_agent")):
                (shell.folder / run).write_bytes((shell.folder / "results" / f"{method}.run").read_bytes())


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_files_that_the_pages_name_are_there() -> None:
    for page in [*PAGES, REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs" / "api").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for path in re.findall(r"`((?:searchrl|tests|benchmarks|tools|docs|checkpoints)/[\w/.-]+\.\w+)`", text):
            made = path == "checkpoints/policy_final.pt"
            assert made or (REPOSITORY / path).exists(), f"{page.name}: {path}"
        for module in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE):
            package, _, name = module.rpartition(".")
            found = import_module(package if name[0].isupper() else module)
            assert not name[0].isupper() or hasattr(found, name), f"{page.name}: {module}"


def test_the_front_page_stays_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 130
