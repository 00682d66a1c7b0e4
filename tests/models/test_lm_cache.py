import logging
import multiprocessing
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from searchrl.errors import CacheError, OutputError
from searchrl.models.language_model import LanguageModel
from searchrl.models.lm_cache import AnswerStore, CachedLanguageModel, cache_stats, clear_cache


class Counting:
    """A language model whose answers are arithmetic, that keeps what it was asked and can be killed midway."""

    def __init__(self, fingerprint="one", die_after=None):
        self.fingerprint = fingerprint
        self.asked = []
        self.die_after = die_after

    def _count(self, items):
        if self.die_after is not None and len(self.asked) >= self.die_after:
            raise KeyboardInterrupt
        self.asked.append(list(items))

    def generate(self, prompts, *, max_new_tokens, temperature=0.0, seed=0):
        self._count(prompts)
        return [f"{p}|{max_new_tokens}|{temperature}|{seed}é" for p in prompts]

    def choice_logprobs(self, prompts, choices):
        self._count(prompts)
        return np.array([[len(p) + len(c) / 7 for c in choices] for p in prompts], dtype=np.float32)

    def continuation_logprobs(self, contexts, continuations):
        self._count(zip(contexts, continuations, strict=True))
        return np.array([len(a) + len(b) / 3 for a, b in zip(contexts, continuations, strict=True)], dtype=np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "lm.sqlite"


@pytest.fixture
def cached(path):
    """Opens caches over the file, and closes them in the end."""
    opened = []

    def make(lm, **settings):
        opened.append(CachedLanguageModel(lm, path, **settings))
        return opened[-1]

    yield make
    for cache in opened:
        cache.close()


def ask_everything(lm):
    return [
        lm.generate(["b", "a", "b"], max_new_tokens=4),
        lm.choice_logprobs(["xx", "y"], ["Yes", "No"]).tolist(),
        lm.continuation_logprobs(["c", "d", "c"], ["q", "r", "q"]).tolist(),
    ]


def test_the_same_answers_from_a_new_process_without_the_model(cached):
    expected = ask_everything(Counting())
    first, second = cached(Counting()), cached(Counting(die_after=0))
    assert isinstance(first, LanguageModel)
    assert ask_everything(first) == expected
    assert ask_everything(second) == expected
    assert (first.calls, first.hits) == (6, 2)
    assert (second.calls, second.hits) == (0, 8)


def test_everything_that_shapes_an_answer_is_in_its_key(cached):
    lm = Counting()
    cache = cached(lm)
    cache.generate(["p"], max_new_tokens=4)
    cache.generate(["p"], max_new_tokens=4, seed=5)  # greedy: the seed shapes nothing
    assert cache.calls == 1
    cache.generate(["p"], max_new_tokens=5)
    cache.generate(["p"], max_new_tokens=4, temperature=0.5)
    cache.generate(["p"], max_new_tokens=4, temperature=0.5, seed=5)
    cache.choice_logprobs(["p"], ["a", "b"])
    cache.choice_logprobs(["p"], ["b", "a"])
    cache.continuation_logprobs(["ab"], ["c"])
    cache.continuation_logprobs(["a"], ["bc"])
    assert cache.calls == 8
    other = cached(Counting("two"))
    other.generate(["p"], max_new_tokens=4)
    assert other.calls == 1


def test_empty_calls(cached):
    cache = cached(Counting())
    assert cache.generate([], max_new_tokens=1) == []
    assert cache.choice_logprobs([], ["a", "b"]).shape == (0, 2)
    assert cache.continuation_logprobs([], []).shape == (0,)


def test_a_killed_job_keeps_what_was_finished_and_repeats_the_rest_in_the_same_chunks(cached):
    prompts = ["p" * (1 + i % 13) + str(i) for i in range(100)]
    whole = Counting()
    CachedLanguageModel(whole, None, chunk=16).generate(prompts, max_new_tokens=1)
    killed = Counting(die_after=3)
    with pytest.raises(KeyboardInterrupt):
        cached(killed, chunk=16).generate(prompts, max_new_tokens=1)
    resumed = Counting()
    answers = cached(resumed, chunk=16).generate(prompts, max_new_tokens=1)
    assert killed.asked + resumed.asked == whole.asked
    assert answers == Counting().generate(prompts, max_new_tokens=1)


def test_all_pairs_of_a_context_are_asked_together(cached):
    lm = Counting()
    contexts = [f"document {i % 7}" for i in range(140)]
    cached(lm, chunk=30).continuation_logprobs(contexts, [f"query {i}" for i in range(140)])
    places = {c: {n for n, chunk in enumerate(lm.asked) for context, _ in chunk if context == c} for c in contexts}
    assert all(len(chunks) == 1 for chunks in places.values())
    assert len(lm.asked) > 2


def test_ten_thousand_lookups(cached):
    contexts = ["document text " * 20 + str(i % 500) for i in range(10_000)]
    endings = [f"query {i}" for i in range(10_000)]
    cache = cached(Counting())
    first = cache.continuation_logprobs(contexts, endings)
    second = cache.continuation_logprobs(contexts, endings)
    assert (first == second).all()
    assert cache.calls == 10_000


@pytest.mark.parametrize("harm", ["text", "middle", "short"])
def test_a_damaged_file_is_moved_aside_and_said(path, caplog, harm):
    with closing(CachedLanguageModel(Counting(), path)) as cache:
        cache.generate([f"prompt {i}" for i in range(3000)], max_new_tokens=1)
    content = path.read_bytes()
    middle = len(content) // 2
    harmed = {
        "text": b"not a database, but long enough to be looked at as one" * 200,
        "middle": content[:middle] + b"\xff" * 8192 + content[middle + 8192 :],
        "short": content[:middle],
    }
    path.write_bytes(harmed[harm])
    with caplog.at_level(logging.WARNING), closing(CachedLanguageModel(Counting(), path)) as again:
        assert again.generate(["prompt 1"], max_new_tokens=1) == ["prompt 1|1|0.0|0é"]
        assert again.calls == 1
    assert "damaged" in caplog.text
    assert path.with_name(path.name + ".damaged").read_bytes() == harmed[harm]
    assert cache_stats(path).entries == 1


def test_damage_that_shows_while_the_file_is_open(path, caplog):
    with closing(AnswerStore(path)) as store:
        store.put({bytes([i % 256, i // 256]) * 16: b"v" * 200 for i in range(2000)})
        store._run(lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
        store._connection.execute("PRAGMA cache_size = 0")
        store._connection.execute("PRAGMA shrink_memory")
        with caplog.at_level(logging.WARNING):
            found = store.get([bytes([i % 256, i // 256]) * 16 for i in range(2000)])
        assert all(value == b"v" * 200 for value in found.values())
        store.put({b"k" * 32: b"new"})
        assert store.get([b"k" * 32]) == {b"k" * 32: b"new"}
    assert "damaged" in caplog.text


def test_a_flipped_bit_in_an_answer_is_computed_again(path, caplog):
    with closing(CachedLanguageModel(Counting(), path)) as cache:
        cache.generate(["p"], max_new_tokens=1)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE answers SET value = 'wrong'")
        connection.execute("UPDATE answers SET value = cast(value AS BLOB)")
    with caplog.at_level(logging.WARNING), closing(CachedLanguageModel(Counting(), path)) as again:
        assert again.generate(["p"], max_new_tokens=1) == ["p|1|0.0|0é"]
        assert again.calls == 1
    assert "damaged" in caplog.text


def test_a_flipped_bit_in_a_key_is_no_answer_to_another(path, caplog):
    """Keys that stand out of order make SQLite give one key's row for another."""
    keys = [bytes([i]) * 32 for i in range(200)]
    with closing(AnswerStore(path)) as store:
        store.put({key: key * 3 for key in keys})
    content = path.read_bytes()
    for key in keys[1:]:
        place = content.index(key)
        path.write_bytes(content[:place] + bytes([key[0] ^ 16]) + content[place + 1 :])
        with caplog.at_level(logging.CRITICAL), closing(AnswerStore(path)) as store:
            found = store.get(keys)
        assert all(found[one] == one * 3 for one in found)
        assert set(found) <= set(keys)


def test_a_damaged_schema_that_is_no_text(path):
    with closing(AnswerStore(path)) as store:
        store.put({b"k" * 32: b"v"})
    path.write_bytes(path.read_bytes().replace(b"WITHOUT ROWID", b"WITHOUT ROWI\xc4"))
    with closing(AnswerStore(path)) as store:
        assert store.get([b"k" * 32]) == {}
        store.put({b"k" * 32: b"new"})
    assert path.with_name(path.name + ".damaged").exists()


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "bookmarks.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    for use in (lambda: CachedLanguageModel(Counting(), path), lambda: cache_stats(path), lambda: clear_cache(path)):
        with pytest.raises(CacheError, match="another program"):
            use()
    assert path.read_bytes() == before


def test_an_unwritable_place_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "lm.sqlite", tmp_path):
        with pytest.raises(OutputError, match="cache off"):
            CachedLanguageModel(Counting(), path)


def test_stats_and_clearing(path, cached):
    assert cache_stats(path).entries == cache_stats(path).bytes == 0
    assert not path.exists()
    cache = cached(Counting())
    cache.generate([f"prompt {i}" for i in range(2000)], max_new_tokens=1)
    held = cache_stats(path)
    assert held.entries == 2000
    assert held.bytes > 100_000
    assert clear_cache(path).entries == 2000
    assert cache_stats(path).entries == 0
    assert cache_stats(path).bytes < held.bytes / 3
    assert cache.generate(["prompt 1"], max_new_tokens=1) == ["prompt 1|1|0.0|0é"]


def test_without_a_path_answers_are_kept_in_memory():
    with closing(CachedLanguageModel(Counting(), None)) as cache:
        cache.generate(["p"], max_new_tokens=1)
        cache.generate(["p"], max_new_tokens=1)
        assert (cache.calls, cache.hits) == (1, 1)


def write_many(path, start):
    with closing(AnswerStore(path)) as store:
        for i in range(start, start + 50):
            store.put({i.to_bytes(32, "little"): str(i).encode()})


def test_two_processes_write_at_once(path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_many, args=(path, start)) for start in (0, 50)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [p.exitcode for p in processes] == [0, 0]
    assert cache_stats(path).entries == 100
