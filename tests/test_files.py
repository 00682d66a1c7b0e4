from __future__ import annotations

import json
import logging
import multiprocessing
import threading
import time
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from searchrl import files
from searchrl.errors import CacheError, ConfigError, ModelError, OutputError
from searchrl.files import (
    cache_dir,
    cache_path,
    damage,
    load_arrays,
    locked,
    new_folder,
    save_arrays,
    sealed_folder,
    write_text,
)

ARRAYS = {
    "vectors": np.arange(6, dtype=np.float32).reshape(2, 3),
    "documents": np.array([[1, -1]], dtype=np.int32),
    "nothing": np.empty((3, 0), dtype=np.float32),
}
META = {"made by": "a test", "ids": ["d1", "é"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_arrays(tmp_path / "stored", ARRAYS, META)
    return tmp_path / "stored"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_is_read(folder: Path) -> None:
    arrays, meta = load_arrays(folder)
    assert meta == META
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_arrays_are_mapped_and_cannot_be_changed(folder: Path) -> None:
    vectors = load_arrays(folder)[0]["vectors"]
    assert isinstance(vectors, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        vectors[0, 0] = 9


def test_writing_again_replaces_all_of_it(folder: Path) -> None:
    save_arrays(folder, {"other": np.zeros(2)}, {})
    assert list(load_arrays(folder)[0]) == ["other"]
    assert sorted(contents(folder)) == ["meta.json", "other.npy"]


def test_missing_parents_are_made_and_only_the_folder_remains(tmp_path: Path) -> None:
    save_arrays(tmp_path / "a" / "b", ARRAYS, META)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def fail_on(monkeypatch: pytest.MonkeyPatch, nth: int, error: Exception) -> None:
    """Let the nth array that is written meet an error halfway."""
    calls, save = 0, np.save

    def failing(path: Path, array: np.ndarray, allow_pickle: bool) -> None:
        nonlocal calls
        calls += 1
        save(path, array, allow_pickle=allow_pickle)
        if calls == nth:
            raise error

    monkeypatch.setattr(files.np, "save", failing)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_stood_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    before = contents(folder.parent)
    fail_on(monkeypatch, 2, error)
    with pytest.raises((OutputError, KeyboardInterrupt)) as raised:
        save_arrays(folder, {"one": np.ones(1), "two": np.ones(2)}, {})
    if isinstance(error, OSError):
        assert str(folder) in str(raised.value)
        assert "No space left" in str(raised.value)
    assert contents(folder.parent) == before


def test_what_cannot_be_stored_leaves_what_stood_there(folder: Path) -> None:
    before = contents(folder.parent)
    with pytest.raises(ValueError, match="allow_pickle"):
        save_arrays(folder, {"objects": np.array([{}], dtype=object)}, {})
    with pytest.raises(TypeError):
        save_arrays(folder, ARRAYS, {"not json": object()})
    assert contents(folder.parent) == before


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file/below cannot be written"):
        save_arrays(tmp_path / "file" / "below", ARRAYS, META)
    with pytest.raises(OutputError, match=r"file/text\.md cannot be written"):
        write_text(tmp_path / "file" / "text.md", "text")
    assert (tmp_path / "file").read_text() == "in the way"


def drop(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["vectors.npy", "nothing.npy"])
@pytest.mark.parametrize("damage", [drop, flip, truncate, empty])
def test_damaged_arrays_are_found(folder: Path, name: str, damage) -> None:
    damage(folder / name)
    with pytest.raises(CacheError, match="stored"):
        load_arrays(folder)


@pytest.mark.parametrize("damage", [drop, truncate, empty])
def test_a_damaged_meta_is_found(folder: Path, damage) -> None:
    damage(folder / "meta.json")
    with pytest.raises(CacheError, match="stored"):
        load_arrays(folder)


def test_one_wrong_letter_in_the_meta_is_found(folder: Path) -> None:
    path = folder / "meta.json"
    path.write_text(path.read_text().replace("a test", "a tesT"))
    with pytest.raises(CacheError, match="stored"):
        load_arrays(folder)


@pytest.mark.parametrize(
    "text", ["not JSON", "[]", "7", "{}", '{"meta": {}}', '{"crc32": {}}', '{"meta": {}, "crc32": [1]}', "\xff"]
)
def test_a_meta_that_says_something_else_is_found(folder: Path, text: str) -> None:
    (folder / "meta.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CacheError, match="stored"):
        load_arrays(folder)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="absent"):
        load_arrays(tmp_path / "absent")


class Bomb:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (explode, ("a pickle was loaded",))


def explode(message: str) -> None:
    raise AssertionError(message)


def test_no_pickle_is_ever_loaded(folder: Path) -> None:
    """Not even one whose checksum is right."""
    path = folder / "vectors.npy"
    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    content = json.loads((folder / "meta.json").read_text())
    content["crc32"]["vectors"] = zlib.crc32(path.read_bytes())
    (folder / "meta.json").write_text(json.dumps(content))
    with pytest.raises(AssertionError, match="a pickle was loaded"):
        np.load(path, allow_pickle=True)
    with pytest.raises(CacheError, match="stored"):
        load_arrays(folder)


def test_text_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "text.md"
    write_text(path, "first é")
    write_text(path, "second")
    assert path.read_text(encoding="utf-8") == "second"
    assert [p.name for p in path.parent.iterdir()] == ["text.md"]


def test_text_that_cannot_be_written_leaves_what_stood_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text.md"
    write_text(path, "first")
    write = Path.write_bytes

    def half(self: Path, content: bytes) -> int:
        write(self, content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OutputError, match="No space left"):
        write_text(path, "second")
    assert path.read_text(encoding="utf-8") == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["text.md"]


def test_an_array_may_be_made_when_its_turn_comes(tmp_path: Path) -> None:
    made = []

    def make(name: str) -> np.ndarray:
        assert sorted(path.name for path in tmp_path.glob(".*/*.npy")) == sorted(f"{n}.npy" for n in made)
        made.append(name)
        return ARRAYS[name]

    save_arrays(tmp_path / "made", {name: lambda name=name: make(name) for name in ARRAYS}, META)
    save_arrays(tmp_path / "given", ARRAYS, META)
    assert made == list(ARRAYS)
    assert contents(tmp_path / "made") == contents(tmp_path / "given")


def test_a_folder_of_100_mb_is_checked_and_mapped_within_a_second(tmp_path: Path) -> None:
    """The widths of a search graph of 3,000 queries: 7 queries of 384 numbers each, 7 results, 4 rankings of 100."""
    wide = {name: np.ones((3000, 7, 384), np.float32) for name in ("queries", "results")}
    long = {name: np.ones((3000, 7, 100), np.float32) for name in "abcd"}
    texts = [[f"what is known about the subject number {i} of {slot}" for i in range(3000)] for slot in range(7)]
    save_arrays(tmp_path / "graph", {**wide, **long}, {"texts": texts})
    took = []
    for _ in range(3):  # the machine may be busy
        start = time.perf_counter()
        load_arrays(tmp_path / "graph")
        took.append(time.perf_counter() - start)
    assert min(took) < 1.0


def test_a_lock_is_for_one_at_a_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "locks" / "thing.lock"
    order = []

    def work() -> None:
        with locked(path):
            order.append("second")

    with locked(path):
        second = threading.Thread(target=work)
        second.start()
        deadline = time.monotonic() + 60
        while "Waiting" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        order.append("first")
    second.join(60)
    assert order == ["first", "second"]
    with pytest.raises(KeyError), locked(path):
        raise KeyError
    with locked(path):
        pass  # free again


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"), locked(tmp_path / "file" / "thing.lock"):
        pass


def test_a_new_folder_appears_when_its_block_ends(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "result") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "deep" / "result").exists()
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["result"]
    with pytest.raises(OutputError, match="exists already"), new_folder(tmp_path / "deep" / "result"):
        pass
    with pytest.raises(KeyError), new_folder(tmp_path / "deep" / "other"):
        raise KeyError
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["result"]


def build(log: Path, folder: Path) -> None:
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


def test_naming_the_cache_makes_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("SEARCHRL_CACHE", str(tmp_path / "new"))
    assert cache_path() == tmp_path / "new"
    assert not (tmp_path / "new").exists()
    assert cache_dir() == tmp_path / "new"
    assert not list((tmp_path / "new").iterdir())


def test_a_relative_cache_home_is_ignored(monkeypatch):
    monkeypatch.delenv("SEARCHRL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_path() == Path.home() / ".cache" / "searchrl"


def test_a_relative_cache_of_ones_own_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEARCHRL_CACHE", "here")
    assert cache_path() == tmp_path / "here"


def test_a_home_that_does_not_exist_is_one_clear_error(monkeypatch):
    monkeypatch.setenv("SEARCHRL_CACHE", "~nobody-of-that-name/cache")
    with pytest.raises(ConfigError, match="SEARCHRL_CACHE"):
        cache_path()
