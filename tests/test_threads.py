"""What is made when first asked for is made once, whichever thread asks first."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from searchrl.models.folders import minilm_folder
from searchrl.threads import lazy, one_at_a_time
from tests.command import REPOSITORY
from tests.small_models import small_causal_lm

THREADS = 8


class Slow:
    """Counts how often its value is made, and how many are at work at once."""

    def __init__(self) -> None:
        self.made = 0
        self.at_once = self.most = 0

    @lazy
    def value(self) -> object:
        time.sleep(0.05)
        self.made += 1
        return [self.made]

    @lazy
    def fails_once(self) -> int:
        self.made += 1
        if self.made == 1:
            raise ValueError("not yet")
        return self.made

    @one_at_a_time
    def work(self, again: bool = True) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        time.sleep(0.01)
        self.at_once -= 1
        if again:
            self.work(again=False)


def at_the_same_time(call):
    """What ``call`` gave eight threads that asked at the same moment."""
    start = threading.Barrier(THREADS)

    def ask(_: int):
        start.wait()
        return call()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(ask, range(THREADS)))


def test_a_lazy_value_is_made_once() -> None:
    slow = Slow()
    first, *others = at_the_same_time(lambda: slow.value)
    assert slow.made == 1
    assert all(other is first for other in others)


def test_objects_do_not_wait_for_each_other() -> None:
    holder, other, inside = Slow(), Slow(), threading.Event()

    class Waits(Slow):
        @lazy
        def value(self) -> object:
            inside.set()
            return other.value

    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(lambda: Waits().value)
        assert inside.wait(5)
        assert holder.value == [1]
        assert waits.result(5) == [1]


def test_a_failure_is_not_remembered_and_copies_work() -> None:
    slow = Slow()
    with pytest.raises(ValueError, match="not yet"):
        _ = slow.fails_once
    assert slow.fails_once == 2
    assert pickle.loads(pickle.dumps(slow)).fails_once == copy.deepcopy(slow).fails_once == 2  # noqa: S301


def test_one_call_at_a_time_of_the_same_object() -> None:
    slow = Slow()
    at_the_same_time(slow.work)
    assert slow.most == 1


FIRST_USE = """
import asyncio, sys, threading
from concurrent.futures import ThreadPoolExecutor
import numpy as np

def at_once(call):
    start = threading.Barrier(8)
    def ask(number):
        start.wait()
        return call(number)
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, range(8)))

from searchrl import Search, Services
from searchrl.models.encoder import Encoder
from searchrl.models.transformers_lm import TransformersLM
from searchrl.device import choose_device
lm, encoder, folder = sys.argv[1:]
queries, keys = ["red apple", "blue stone"], ["a red apple", "a stone", "blue glass"]

model = TransformersLM(lm)
answers = at_once(lambda _: model.continuation_logprobs(keys, [queries[0]] * 3))
assert all(np.array_equal(a, answers[0]) for a in answers), answers
texts = at_once(lambda _: TransformersLM(lm).generate(queries, max_new_tokens=3))
assert all(t == texts[0] for t in texts)
vectors = Encoder(encoder, dtype="float32")
found = at_once(lambda _: vectors.encode(queries, kind="query"))
assert all(np.array_equal(f, found[0]) for f in found)

search = Search(lm, device="cpu", cache=False)
ranked = at_once(lambda _: asyncio.run(search(queries, keys, k=2)))
assert all(r == ranked[0] for r in ranked)
search.close()
services = Services(lm, lm, device="cpu", cache=False)
ranked = at_once(lambda _: asyncio.run(services.search(queries, keys, k=2)))
assert all(r == ranked[0] for r in ranked)
services.close()

import gymnasium

def opening(_):
    env = gymnasium.make("searchrl/Search-v0", dataset=folder, split="train", cache=False)
    return env.reset(seed=0)[0]["query"]

opened = at_once(opening)
assert all(np.array_equal(o, opened[0]) for o in opened)
print("once", flush=True)
"""


def test_eight_threads_that_use_everything_first(small_folder: Path, tmp_path: Path) -> None:
    model = small_causal_lm(tmp_path / "lm", "qwen2")
    command = [sys.executable, "-X", "dev", "-W", "ignore", "-W", "error::ResourceWarning", "-c", FIRST_USE]
    done = subprocess.run(
        [*command, str(model), str(minilm_folder()), str(small_folder)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": str(REPOSITORY), "SEARCHRL_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.stdout == "once\n", done.stderr[-3000:]
    assert "ResourceWarning" not in done.stderr
