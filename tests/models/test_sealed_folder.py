import logging
import multiprocessing
import time
from functools import partial

import pytest

from searchrl.errors import ModelError, OutputError
from searchrl.models.sealed_folder import damage, sealed_folder


def build(log, folder):
    with log.open("a") as file:
        file.write("built\n")
    time.sleep(0.3)  # long enough for a second process to arrive
    (folder / "weights.bin").write_bytes(b"w" * 1000)
    (folder / "config.json").write_text("{}")


def test_built_once_then_reused(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "deep" / "model"
    assert sealed_folder(folder, partial(build, log)) == folder
    assert damage(folder) == ""
    sealed_folder(folder, partial(build, log))
    assert log.read_text() == "built\n"


@pytest.mark.parametrize(
    "harm",
    [
        lambda f: (f / "weights.bin").write_bytes(b"w" * 500),
        lambda f: (f / "weights.bin").write_bytes(b"w" * 999 + b"x"),
        lambda f: (f / "weights.bin").unlink(),
        lambda f: (f / "seal.json").unlink(),
        lambda f: (f / "seal.json").write_text('{"weights.bin": '),
        lambda f: (f / "seal.json").write_text("[]"),
    ],
    ids=["truncated", "one byte", "missing", "no seal", "half a seal", "no object"],
)
def test_damage_is_said_and_repaired(tmp_path, caplog, harm):
    log, folder = tmp_path / "log", tmp_path / "model"
    sealed_folder(folder, partial(build, log))
    harm(folder)
    with caplog.at_level(logging.WARNING):
        sealed_folder(folder, partial(build, log))
    assert "damaged" in caplog.text
    assert damage(folder) == ""
    assert log.read_text() == "built\nbuilt\n"


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "half").write_text("")
        raise ModelError("no")

    with pytest.raises(ModelError):
        sealed_folder(tmp_path / "model", fail)
    assert [p for p in tmp_path.iterdir() if p.is_dir()] == []


def test_two_processes_build_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    arguments = (tmp_path / "model", partial(build, tmp_path / "log"))
    processes = [context.Process(target=sealed_folder, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=30)
    assert [p.exitcode for p in processes] == [0, 0]
    assert damage(tmp_path / "model") == ""
    assert (tmp_path / "log").read_text() == "built\n"


def test_an_unwritable_place_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="SEARCHRL_CACHE"):
        sealed_folder(tmp_path / "file" / "model", partial(build, tmp_path / "log"))
