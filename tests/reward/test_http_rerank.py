from contextlib import closing

import pytest

from searchrl.errors import EngineError
from searchrl.reward.head import DOCUMENTS_AT_ONCE, HttpReranker
from tests.servers.openai import Server, running

QUERIES = ["red fox", "blue sky", "red fox", "red fox"]
DOCUMENTS = ["a red fox", "a red fox", "nothing", "the red door"]
SCORES = [1.0, 0.0, 0.0, 0.5]


@pytest.fixture
def server():
    with running(Server()) as server:
        yield server


def test_each_pair_gets_its_own_score(server):
    with closing(HttpReranker(server.url)) as reranker:
        assert reranker.score(QUERIES, DOCUMENTS).tolist() == SCORES
        assert len(server.asked) == 3, "one request a query, and one for the model's name"
        assert reranker.score([], []).shape == (0,)
        many = reranker.score(["red fox"] * 150, [f"fox {i}" for i in range(150)])
        assert many.tolist() == [0.5] * 150


def test_the_fingerprint_names_model_and_endpoint(server):
    with closing(HttpReranker(server.url)) as reranker:
        assert reranker.fingerprint == f"http-rerank-1 {reranker.served.fingerprint} rerank"
        assert reranker.name == "served"


def test_a_failure_carries_each_scored_pair(server):
    with closing(HttpReranker(server.url, attempts=1, concurrency=1)) as reranker:
        server.breaks_after = 1
        queries = ["red fox"] * DOCUMENTS_AT_ONCE + ["blue sky"] * 3
        with pytest.raises(EngineError, match="500") as failure:
            reranker.score(queries, ["a red door"] * len(queries))
    assert failure.value.answered == dict.fromkeys(range(DOCUMENTS_AT_ONCE), 0.5)


@pytest.mark.parametrize("answer", ['{"results": []}', '{"results": [{"index": 0, "relevance_score": null}]}', "[1]"])
def test_other_answers_than_scores(server, answer):
    with closing(HttpReranker(server.url, attempts=1)) as reranker:
        assert reranker.name
        server.faults.append(answer)
        with pytest.raises(EngineError, match="/v1/rerank"):
            reranker.score(["q"], ["d"])


def test_a_server_without_the_endpoint(server):
    server.lacks = ("/v1/rerank",)
    with (
        closing(HttpReranker(server.url)) as reranker,
        pytest.raises(EngineError, match=r"does not offer .*/v1/rerank"),
    ):
        reranker.score(["q"], ["d"])
