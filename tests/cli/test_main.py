"""The one command: its subcommands, help, completion."""

from __future__ import annotations

import subprocess
import sys

import pytest

from searchrl import __version__, cli
from searchrl.cli import completion
from tests.command import REPOSITORY


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in cli.COMMANDS)
    cli.main(["--version"])
    assert capsys.readouterr().out == f"searchrl {__version__}\n"


def test_an_unknown_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["trian"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: unknown command 'trian': did you mean 'train'?")


def test_help_of_every_command_is_light() -> None:
    """None of the heavy libraries is imported to print it."""
    heavy = {"torch", "transformers", "sentence_transformers", "scipy", "sklearn", "pandas", "fastapi", "matplotlib"}
    code = (
        "import sys, contextlib\nfrom searchrl import cli\n"
        "for name in cli.COMMANDS:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        cli.main([name, '--help'])\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_stages_and_flags(shell: str) -> None:
    script = completion([shell])
    assert all(name in script for name in cli.COMMANDS)
    for word in ("--episodes", "--num-queries", "train_lora", "--token-env", "assign", "rerank", "--interpolate"):
        assert word in script


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_bash_completes() -> None:
    script = (
        f"{completion(['bash'])}\nCOMP_WORDS=(searchrl train --episo); COMP_CWORD=2; _searchrl; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "--episodes"
