"""Workers of Ray answer as the engine itself does, bit for bit, also when one of them is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from searchrl.config import ModelConfig, RayConfig
from searchrl.errors import ConfigError, EngineError
from searchrl.models.encoder import Encoder
from searchrl.models.lm_cache import AnswerStore, CachedLanguageModel
from searchrl.models.loader import ModelLoader

TWO = RayConfig(ray="local", ray_workers=2)


def test_settings_without_a_cluster_are_refused() -> None:
    with pytest.raises(ConfigError, match="`ray_workers` needs `ray`"):
        RayConfig(ray_workers=3)
    with pytest.raises(ConfigError, match="ray_workers"):
        RayConfig("local", ray_workers=0)
    assert ModelConfig().cluster.ray is None


class Slow:
    """Says which process it is in, after a while."""

    def pid(self, seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()

    def fails(self, message: str) -> None:
        raise ConfigError(message) if message else KeyError("lost")

    def dies(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    module = pytest.importorskip("ray", reason="the extra ray is not installed")
    from searchrl.cluster import connect

    connect(TWO)
    yield
    module.shutdown()


pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


def test_a_start_that_fails_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is too busy Ray gives up after 30 seconds, with an exception of no kind of its own."""
    module = pytest.importorskip("ray", reason="the extra ray is not installed")
    from searchrl.cluster import connect

    def slow(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(module, "is_initialized", lambda: False)
    monkeypatch.setattr(module, "init", slow)
    with pytest.raises(EngineError, match=r"Ray at local: The current node timed out"):
        connect(TWO)


def test_a_worker_that_is_killed_costs_its_request(ray: None) -> None:
    from searchrl.cluster import Pool, Request

    pool = Pool(Slow, TWO)
    victim = pool.ask("pid", 0.0)
    threading.Timer(1.0, os.kill, (victim, signal.SIGKILL)).start()
    answers = dict(pool.each([Request("pid", (0.5,))] * 8))
    assert sorted(answers) == list(range(8))
    assert len(set(answers.values())) == 3, "two workers, and one in the place of the killed"
    with pytest.raises(ConfigError, match="this way out"):
        pool.ask("fails", "this way out")
    with pytest.raises(EngineError, match="a Ray worker failed"):
        pool.ask("fails", "")
    with pytest.raises(EngineError, match="3 Ray workers died on one request"):
        pool.ask("dies")
    pool.close()


def test_answers_are_the_same_bits_and_are_kept_by_the_driver(ray: None, tmp_path: Path) -> None:
    pairs = [(f"Passage: {word} in the sea", f" {other}") for word in ("whales", "sharks", "sand") for other in "abc"]
    contexts, continuations = [c for c, _ in pairs], [c for _, c in pairs]

    def answers(cluster: RayConfig, file: str) -> tuple[np.ndarray, list[str], int]:
        loader = ModelLoader("transformers", device="cpu", dtype="float32", cache=False, cluster=cluster)
        engine = loader.backend("smollm2-135m", "likelihoods")
        cached = CachedLanguageModel(engine, tmp_path / file, chunk=2)
        found = cached.continuation_logprobs(contexts, continuations)
        written = cached.generate(["Name a fish.", "Name a bird."], max_new_tokens=4)
        loader.close()
        return found, written, cached.calls

    alone, together = answers(RayConfig(), "alone.sqlite"), answers(TWO, "together.sqlite")
    np.testing.assert_array_equal(together[0], alone[0])
    assert together[1:] == alone[1:]
    stores = [
        AnswerStore(tmp_path / name)._rows("SELECT key, value FROM answers ORDER BY key")
        for name in ("alone.sqlite", "together.sqlite")
    ]
    assert stores[0] == stores[1]


def test_vectors_are_the_same_bits(ray: None) -> None:
    from searchrl.models.ray_models import RayEncoder

    texts = [f"text {i} " + "of some length " * (i % 9) for i in range(80)]
    make = partial(Encoder, "all-MiniLM-L6-v2", "cpu", dtype="float32")
    split = RayEncoder("all-MiniLM-L6-v2", "cpu", dtype="float32", config=TWO)
    assert split.fingerprint == make().fingerprint
    np.testing.assert_array_equal(split.encode(texts), make().encode(texts))
