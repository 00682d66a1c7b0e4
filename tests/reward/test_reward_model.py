from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from searchrl.errors import CheckpointError, EngineError
from searchrl.models.language_model import FloatArray
from searchrl.reward.reward_model import CachedReward
from tests.small_models import OverlapReward, overlap

PAIRS = st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), max_size=8)


def test_what_was_scored_is_not_scored_again(tmp_path: Path) -> None:
    first = CachedReward(OverlapReward(), tmp_path / "c")
    scores = first.score(["a b", "a b"], ["b", "c"])
    first.close()
    inner = OverlapReward()
    second = CachedReward(inner, tmp_path / "c")
    np.testing.assert_array_equal(second.score(["a b", "x", "a b"], ["c", "x", "b"]), [scores[1], 1.0, scores[0]])
    second.close()
    assert inner.asked == [("x", "x")]
    assert second.hits == 2


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=PAIRS, now=PAIRS)
def test_scores_are_the_models_own(tmp_path: Path, before: list[tuple[str, str]], now: list[tuple[str, str]]) -> None:
    reward = CachedReward(OverlapReward(), tmp_path / "shared")
    for pairs in (before, now):
        scores = reward.score([q for q, _ in pairs], [d for _, d in pairs])
        np.testing.assert_array_equal(scores, np.array([overlap(q, d) for q, d in pairs], dtype=np.float32))
    reward.close()


def test_another_scorer_reads_nothing_of_it(tmp_path: Path) -> None:
    for name in ("one", "other"):
        inner = OverlapReward(fingerprint=name)
        reward = CachedReward(inner, tmp_path / "c")
        reward.score(["a"], ["b"])
        reward.close()
        assert inner.asked == [("a", "b")]
        assert reward.fingerprint == name
        assert reward.absolute


def test_scores_that_a_dying_server_gave_are_kept(tmp_path: Path) -> None:
    class Dying(OverlapReward):
        def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
            if len(queries) > 1:
                raise EngineError("the server is gone", {1: 0.75})
            return super().score(queries, documents)

    inner = Dying()
    reward = CachedReward(inner, tmp_path / "c", keeps_answered=True)
    assert reward.score(["known"], ["known"]) == [1.0]
    with pytest.raises(EngineError, match="gone"):
        reward.score(["known", "a", "b"], ["known", "a", "c"])
    np.testing.assert_array_equal(reward.score(["b"], ["c"]), [0.75])
    reward.close()
    assert inner.asked == [("known", "known")]


def test_a_file_that_is_something_else_stays_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "results.jsonl"
    text.write_text('{"query": 1}\n')
    with pytest.raises(CheckpointError, match=r"results\.jsonl is not a checkpoint of a search"):
        CachedReward(OverlapReward(), text)
    assert text.read_text() == '{"query": 1}\n'
    with sqlite3.connect(tmp_path / "foreign.db") as foreign:
        foreign.execute("CREATE TABLE mine (a)")
    foreign.close()
    with pytest.raises(CheckpointError, match="another program's database"):
        CachedReward(OverlapReward(), tmp_path / "foreign.db")
    with pytest.raises(CheckpointError, match="cannot be used"):
        CachedReward(OverlapReward(), tmp_path)
    with pytest.raises(CheckpointError, match="cannot be used"):
        CachedReward(OverlapReward(), text / "below")


JOB = """
import asyncio, sys
from searchrl import Search
from tests.small_models import OverlapReward

queries = [f"query {i}" for i in range(4)]
keys = [f"key {i} of query {i % 4}" for i in range(300)]
search = Search(scorer=OverlapReward(seconds=0.05), cache=False, show_progress=False)
asyncio.run(search(queries, keys, checkpoint=sys.argv[1]))
"""


def test_a_job_that_was_killed_goes_on(tmp_path: Path) -> None:
    import asyncio

    from searchrl import Search

    path = tmp_path / "c"
    job = subprocess.Popen([sys.executable, "-c", JOB, str(path)], cwd=Path(__file__).parents[2], env=os.environ)
    try:
        deadline = time.monotonic() + 60
        while _entries(path) == 0:
            assert time.monotonic() < deadline, "the job wrote nothing"
            assert job.poll() is None, "the job ended by itself"
            time.sleep(0.005)
        job.send_signal(signal.SIGKILL)
    finally:
        job.kill()
        job.wait()
    done = _entries(path)
    assert 0 < done < 1200, "killed too late"

    queries = [f"query {i}" for i in range(4)]
    keys = [f"key {i} of query {i % 4}" for i in range(300)]

    async def run(reward: OverlapReward, checkpoint: Path | None) -> object:
        async with Search(scorer=reward, cache=False, show_progress=False) as search:
            return await search(queries, keys, return_relevance=True, checkpoint=checkpoint)

    resumed, plain = OverlapReward(), OverlapReward()
    assert asyncio.run(run(resumed, path)) == asyncio.run(run(plain, None))
    assert len(plain.asked) == 1200
    assert len(resumed.asked) == 1200 - done


def _entries(path: Path) -> int:
    if not path.exists():
        return 0
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.OperationalError:  # not yet made
        return 0
    finally:
        connection.close()
