"""A trained policy searches corpora it has never seen, over HTTP, and says what it did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from benchmarks.bench import Bench
from searchrl.agent.checkpoint import load_policy
from searchrl.config import GameConfig, ModelConfig, TrainConfig
from searchrl.data.dataset import Corpus
from searchrl.env.live import play_live
from searchrl.errors import CheckpointError
from searchrl.search.corpus import Agent
from tests.command import Outcome, Shell
from tests.formats import cosine_tolerance
from tests.models.conftest import random_model
from tests.service.parts import client, ids, untrained_policy
from tests.tiny import WordEncoder

MODELS = ModelConfig(device="cpu", cache=False)


def upload(corpus: Corpus) -> str:
    documents = zip(corpus.ids, corpus.titles, corpus.texts, strict=True)
    return "\n".join(json.dumps({"_id": i, "title": title, "text": text}) for i, title, text in documents)


@pytest.fixture(scope="module")
def policy_file(trained: tuple[Shell, Outcome]) -> Path:
    return trained[0].folder / "checkpoints" / "policy_final.pt"


@pytest.fixture(scope="module")
def asking(policy_file: Path, bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    agent = Agent(policy_file, MODELS, bench.encoder)
    with client(tmp_path_factory.mktemp("corpora"), encoder=bench.encoder, agent=agent) as ready:
        assert ready.put("/corpora/small", content=upload(bench.dataset.corpus)).status_code == 201
        yield ready
    agent.close()


def test_the_agents_answer_is_its_episode_over_the_same_documents(
    asking: TestClient, policy_file: Path, bench: Bench
) -> None:
    queries = list(bench.queries("test").texts)
    asked = {"corpus": "small", "queries": queries, "strategy": "agent", "k": 5}
    results = asking.post("/search", json=asked).json()["results"]
    episodes = play_live(load_policy(policy_file).policy, bench.game, queries)
    for query, result, episode in zip(queries, results, episodes, strict=True):
        assert episode.final is not None
        assert [key["score"] for key in result["keys"]] == pytest.approx(
            episode.final.scores[0, :5].tolist(), abs=max(1e-4, cosine_tolerance())
        )
        assert [step["action"] for step in result["steps"]] == [step.action.name.lower() for step in episode.steps]
        first, *_, last = result["steps"]
        assert (first["action"], first["query"], first["probabilities"]) == ("search", query, {"search": 1.0})
        assert len(first["keys"]) == 5
        if len(result["steps"]) < bench.game.rules.max_steps:
            assert (last["action"], last["keys"]) == ("terminate", None)
        for step in result["steps"]:
            assert sum(step["probabilities"].values()) == pytest.approx(1.0, abs=1e-4)
            assert max(step["probabilities"], key=step["probabilities"].__getitem__) == step["action"]


def test_single_pass_is_the_agents_first_search(asking: TestClient, bench: Bench) -> None:
    query = bench.queries("test").texts[0]
    single = asking.post("/search", json={"corpus": "small", "queries": [query]})
    played = asking.post("/search", json={"corpus": "small", "queries": [query], "strategy": "agent"})
    assert [key["key_id"] for key in played.json()["results"][0]["steps"][0]["keys"]] == ids(single)


def test_who_the_agent_is_can_be_asked(asking: TestClient) -> None:
    assert asking.get("/readyz").json()["agent"] == {
        "checkpoint": "policy_final.pt",
        "trained_on": "small",
        "episode": 1280,
    }


def test_a_corpus_of_one_document_is_enough(asking: TestClient) -> None:
    assert asking.put("/corpora/one", content='{"_id": "only", "text": "the only document"}').status_code == 201
    for query in ("the only document", "?", "unknown words"):
        answer = asking.post("/search", json={"corpus": "one", "queries": [query], "strategy": "agent"})
        assert answer.status_code == 200
        assert ids(answer) == ["only"]


def test_a_policy_for_another_encoder_is_refused(policy_file: Path) -> None:
    with pytest.raises(CheckpointError, match="choose encoder all-MiniLM-L6-v2"):
        Agent(policy_file, MODELS, WordEncoder())


def test_a_policy_that_listens_to_a_language_model_brings_it_along(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("judged")
    lm = str(random_model(folder / "lm", "qwen2"))
    models = replace(MODELS, lm=lm, judge="likelihood", dtype="float32")
    game = GameConfig(reward="lm", trust=(0.3,))
    judged = Bench(bench.data, models, game, show_progress=False)
    vars(judged)["retriever"] = bench.retriever  # which is encoded already
    names = judged.game.feature_names
    assert "reward_mean" in names
    untrained_policy(folder / "policy.pt", bench, names, TrainConfig(models=models, game=game))
    agent = Agent(folder / "policy.pt", MODELS, bench.encoder)
    with client(folder / "corpora", encoder=bench.encoder, agent=agent) as asking:
        corpus = bench.dataset.corpus
        few = Corpus(corpus.ids[:12], corpus.titles[:12], [text[:80] for text in corpus.texts[:12]])
        assert asking.put("/corpora/few", content=upload(few)).status_code == 201
        answer = asking.post("/search", json={"corpus": "few", "queries": ["how to sort"], "strategy": "agent"})
    agent.close()
    assert answer.status_code == 200
    *_, last = answer.json()["results"][0]["steps"]
    assert last["trust"] == (0.3 if last["action"] == "terminate" else None)
