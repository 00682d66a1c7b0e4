"""A language model as slow as real ones are: nobody waits for more than a turn of it, and budgets are kept."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from benchmarks.bench import Bench
from searchrl.config import GameConfig, ModelConfig, TrainConfig
from searchrl.models.language_model import FloatArray
from searchrl.search.corpus import Agent
from searchrl.search.services import Services
from searchrl.service.app import create_app
from searchrl.service.service import Service
from tests.service.parts import Backwards, Overlap, client, config_of, untrained_policy
from tests.service.test_agent import upload

PAIR_SECONDS = 0.02


class Slow(Overlap):
    """A reward model that takes its time for every pair, and counts them."""

    absolute = True

    def __init__(self) -> None:
        self.scored: list[tuple[str, str]] = []
        self.lock = threading.Lock()

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        time.sleep(PAIR_SECONDS * len(queries))
        with self.lock:
            self.scored += zip(queries, documents, strict=True)
        return np.minimum(super().score(queries, documents) / 10, 1)


class Judging(Agent):
    """An agent with an untrained policy that listens to a slow reward model."""

    def __init__(self, path: Path, encoder: Any, reward: Slow) -> None:
        super().__init__(path, ModelConfig(device="cpu", cache=False), encoder)
        self._reward_model = reward


@pytest.fixture(scope="module")
def policy_file(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from searchrl.env.features import PROBE_FEATURES, QUERY_FEATURES, RANKING_FEATURES, REWARD_FEATURES

    names = RANKING_FEATURES + PROBE_FEATURES + REWARD_FEATURES + QUERY_FEATURES
    recorded = TrainConfig(models=ModelConfig(device="cpu", cache=False), game=GameConfig(reward="lm", trust=(0.3,)))
    return untrained_policy(tmp_path_factory.mktemp("judging") / "policy.pt", bench, names, recorded)


class Place:
    """A service whose judgments take 20 ms each, and its client."""

    def __init__(self, asking: TestClient, reward: Slow, service: Service, queries: Sequence[str]) -> None:
        self.asking, self.reward, self.service, self.queries = asking, reward, service, queries

    def search(self, query: str, **more: Any) -> Any:
        return self.asking.post("/search", json={"corpus": "small", "queries": [query], **more})


@pytest.fixture(scope="module")
def indexed(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small collection, indexed once."""
    folder = tmp_path_factory.mktemp("indexed")
    with client(folder, encoder=bench.encoder) as asking:
        assert asking.put("/corpora/small", content=upload(bench.dataset.corpus)).status_code == 201
    return folder


@pytest.fixture
def place(policy_file: Path, bench: Bench, indexed: Path, tmp_path: Path) -> Iterator[Place]:
    reward = Slow()
    agent = Judging(policy_file, bench.encoder, reward)
    folder = shutil.copytree(indexed, tmp_path / "corpora")
    config = config_of(folder, max_wait=15.0)
    models = Services(generation_model=Backwards(), embedding_model=bench.encoder, scorer=reward)
    service = Service(config, models, agent)
    with TestClient(create_app(service, config), base_url="http://127.0.0.1") as asking:
        while asking.get("/readyz").status_code != 200:
            pass
        yield Place(asking, reward, service, bench.queries("test").texts)


def test_a_judgment_is_asked_for_once(place: Place) -> None:
    query = place.queries[0]
    first = place.search(query, strategy="agent").json()
    count = len(place.reward.scored)
    assert count == len(set(place.reward.scored)) > 0
    assert place.search(query, strategy="agent").json() == first
    place.search(query, return_relevance=True)
    assert len(place.reward.scored) == len(set(place.reward.scored))
    text = place.asking.get("/metrics").text
    assert 'searchrl_judgments{source="memory"}' in text
    assert 'searchrl_wait_seconds{lane="agent"} 0.0' in text


def test_a_plain_search_does_not_wait_for_agents(place: Place) -> None:
    place.search(place.queries[0])
    waits: list[float] = []
    done = threading.Event()

    def plain() -> None:
        while not done.is_set():
            started = time.perf_counter()
            assert place.search(place.queries[1]).status_code == 200
            waits.append(time.perf_counter() - started)

    asker = threading.Thread(target=plain)
    asker.start()
    started = time.perf_counter()
    threads = [
        threading.Thread(target=place.search, args=(q,), kwargs={"strategy": "agent"}) for q in place.queries[2:10]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    busy = time.perf_counter() - started
    done.set()
    asker.join()
    assert busy > 0.3, "or there was nothing to wait for"
    assert len(waits) > 10
    assert sorted(waits)[int(0.95 * len(waits))] < max(0.5, busy / 4), "also where the machine is busy with others"


def test_a_budget_gives_the_best_ranking_until_then_and_says_so(place: Place) -> None:
    query = place.queries[3]
    started = time.perf_counter()
    answer = place.search(query, strategy="agent", budget_ms=80).json()["results"][0]
    assert time.perf_counter() - started < 1.0
    assert answer["stopped"] == "budget_ms"
    assert len(answer["keys"]) == 10
    assert answer["steps"][0]["action"] == "search"
    whole = place.search(query, strategy="agent").json()["results"][0]
    assert whole["stopped"] is None


@pytest.mark.parametrize("most", [0, 1, 7])
def test_no_more_is_judged_than_may_be(place: Place, most: int) -> None:
    answer = place.search(place.queries[4], strategy="agent", max_judged=most).json()["results"][0]
    assert answer["stopped"] == "max_judged"
    assert len(place.reward.scored) == most
    assert len(answer["keys"]) == 10


def test_given_keys_have_a_budget_too(place: Place) -> None:
    keys = [f"key number {i}" for i in range(100)]
    asked = {"queries": ["number 7"], "keys": keys, "k": 100}
    started = time.perf_counter()
    answer = place.asking.post("/search", json={**asked, "budget_ms": 300}).json()["results"][0]
    assert time.perf_counter() - started < 1.0
    assert answer["stopped"] == "budget_ms"
    assert 0 < len(answer["keys"]) < 100
    answer = place.asking.post("/search", json={**asked, "max_judged": 5}).json()["results"][0]
    assert (answer["stopped"], len(answer["keys"])) == ("max_judged", 5)


def test_where_the_wait_is_too_long_a_client_hears_when_to_come_again(place: Place) -> None:
    place.service.limits = replace(place.service.limits, max_wait=1.0)

    async def main() -> list[Any]:
        def one(i: int) -> Any:
            return place.asking.post("/relevance", json={"queries": ["a"], "keys": [f"{i} {j}" for j in range(200)]})

        return await asyncio.gather(*(asyncio.to_thread(one, i) for i in range(8)))

    answers = asyncio.run(main())
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert [answer for answer in answers if answer.status_code == 200]
    for answer in refused:
        assert 1 <= int(answer.headers["Retry-After"]) < 60
        assert "would wait about" in answer.json()["detail"]


def test_another_agents_mistake_is_no_other_query_s(place: Place) -> None:
    body = {"corpus": "small", "queries": list(place.queries[:3]), "strategy": "agent", "max_judged": 3}
    results = place.asking.post("/search", json=body).json()["results"]
    assert [result["query"] for result in results] == list(place.queries[:3])
    assert {result["stopped"] for result in results} == {"max_judged"}
