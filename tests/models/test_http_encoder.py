from contextlib import closing

import numpy as np
import pytest

from searchrl.errors import ConfigError, EngineError
from searchrl.models.encoder import Encoder, HttpEncoder
from tests.servers.openai import Server, running

TEXTS = ["a cat", "", "Straße 中文 🙂 \ud800", "a much longer text " * 60, "a cat"]


@pytest.fixture(scope="module")
def encoder():
    return Encoder(dtype="float32")


@pytest.fixture
def server(encoder):
    with running(Server(encoder=encoder)) as server:
        yield server


def test_vectors_are_the_encoders_own_in_the_order_of_the_texts(server, encoder):
    with closing(HttpEncoder(server.url, batch_size=2)) as http:
        np.testing.assert_allclose(http.encode(TEXTS), encoder.encode(TEXTS), atol=1e-4)
        assert server.asked.count("/v1/embeddings") == 3
        assert http.dim == encoder.dim
        assert http.encode([]).shape == (0, encoder.dim)


def test_prompts_are_put_before_the_texts_and_named_in_the_fingerprint(server, encoder):
    with (
        closing(HttpEncoder(server.url)) as plain,
        closing(HttpEncoder(server.url, query_prompt="query: ")) as prompted,
    ):
        np.testing.assert_allclose(
            prompted.encode(["a cat"], kind="query"), encoder.encode(["query: a cat"]), atol=1e-4
        )
        np.testing.assert_allclose(prompted.encode(["a cat"]), encoder.encode(["a cat"]), atol=1e-4)
        assert plain.fingerprint != prompted.fingerprint


def test_other_answers_than_vectors(server):
    with closing(HttpEncoder(server.url, attempts=1)) as http:
        assert http.name == "served"
        for answer in ('{"data": []}', '{"data": [{"index": 0, "embedding": [null]}]}', '{"vectors": 1}', "[]"):
            server.faults.append(answer)
            with pytest.raises(EngineError, match="/v1/embeddings"):
                http.encode(["text"])


def test_an_impossible_batch():
    with pytest.raises(ConfigError, match="batch_size"):
        HttpEncoder("http://127.0.0.1:1", batch_size=0)
