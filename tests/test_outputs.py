"""Where results go: files whole or not at all, links and pipes as they are, nothing left of what was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from searchrl.agent.run_dir import open_run
from searchrl.command import check_output_file
from searchrl.config import OutputConfig, TrainConfig
from searchrl.errors import OutputError
from searchrl.files import HOST, load_arrays, new_folder, remove_leftovers, save_arrays, write_bytes, write_text
from searchrl.fitting.training import RunFolder
from tests.command import REPOSITORY

posix = pytest.mark.skipif(os.name != "posix", reason="pipes and process ids are POSIX's")


@posix
def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    check_output_file(pipe, "output")
    write_text(pipe, "tea\n")
    reader.join(10)
    assert read == [b"tea\n"]
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "real.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    for text in ("first", "second"):  # the first makes the file that the link names
        check_output_file(link, "output")
        write_text(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["real.txt"]


def test_a_linked_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    for name in ("arrays", "new"):
        (tmp_path / name).symlink_to(tmp_path / "store" / name)
    save_arrays(tmp_path / "arrays", {"a": np.ones(2)}, {})
    save_arrays(tmp_path / "arrays", {"a": np.zeros(2)}, {})
    with new_folder(tmp_path / "new") as folder:
        (folder / "file").touch()
    assert load_arrays(tmp_path / "store" / "arrays")[0]["a"].sum() == 0
    assert (tmp_path / "arrays").is_symlink()
    assert (tmp_path / "new").is_symlink()
    assert (tmp_path / "store" / "new" / "file").exists()


@pytest.mark.parametrize("name", ["é" * 120 + ".json", "a" * 255, "[x]*.json", " spaced .txt", "new\nline", ".hidden"])
def test_any_name_that_the_file_system_takes(tmp_path: Path, name: str) -> None:
    for content in (b"one", b"two"):
        write_bytes(tmp_path / name, content)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"two")]


def dead_process() -> int:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    return int(dead.stdout)


@posix
def test_the_next_run_of_a_folder_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    end = f"{HOST}-{dead_process()}-00000000.tmp"
    run = open_run(TrainConfig(output=OutputConfig(run_name="a", runs_dir=tmp_path)))
    fitted = RunFolder(tmp_path / "fitted")
    fitted.open(overwrite=False)
    for folder in (run.path, fitted.path):
        (folder / f".state.pt.{end}").touch()
        (folder / f".merged.{end}").mkdir()
        (folder / f".merged.{end}" / "model.safetensors").touch()
    open_run(TrainConfig(output=OutputConfig(run_name="a", runs_dir=tmp_path, resume=True)))
    fitted.open(overwrite=False)
    for folder in (run.path, fitted.path):
        assert not [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]


@posix
def test_what_a_killed_process_left_goes_and_what_others_write_stays(tmp_path: Path) -> None:
    pid = dead_process()
    for name in (f".out.{HOST}-{pid}-00000000.tmp", f".out.000000-{pid}-00000000.tmp", f".out.{HOST}-1-00000000.tmp"):
        (tmp_path / name).touch()
    (tmp_path / f".merged.{HOST}-{pid}-00000000.tmp").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / f".policy.pt.{HOST}-{pid}-00000000.tmp").touch()
    (tmp_path / ".mine.tmp").touch()
    write_text(tmp_path / "out", "text")
    kept = {f".out.000000-{pid}-00000000.tmp", f".out.{HOST}-1-00000000.tmp", ".mine.tmp", "out", "sub"}
    assert {path.name for path in tmp_path.iterdir()} == {*kept, f".merged.{HOST}-{pid}-00000000.tmp"}
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert not list((tmp_path / "sub").iterdir())


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("a\0b", "x" * 300):
        with pytest.raises(OutputError):
            write_text(tmp_path / name, "text")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; name a file with output"):
        check_output_file(tmp_path, "output")


PRINTS = """
import sys
from searchrl.command import run_command
run_command(lambda arguments: (print("x" * int(arguments[0])), print("done", file=sys.stderr)), sys.argv[1:])
"""


@posix
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_command_runs_without_standard_streams(closed: str, tmp_path: Path) -> None:
    command = f'exec "{sys.executable}" -c "$0" 3 {closed}'
    done = subprocess.run(["sh", "-c", command, PRINTS], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else "xxx\n")
    assert done.stderr == ("" if "2>&-" in closed else "done\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("size", ["3", "100000"])
def test_a_full_disk_behind_the_output_is_one_line(size: str) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", PRINTS, size]
        done = subprocess.run(command, cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "error: the output cannot be written (No space left on device); make room, or send it elsewhere"
    assert "Traceback" not in done.stderr
