"""Servers that answer as no server should: one clear error, in time, whatever comes."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from searchrl.errors import EngineError, ModelError
from searchrl.models import answers, http_wire
from searchrl.models.encoder import HttpEncoder
from searchrl.models.http_client import HttpClient
from searchrl.models.http_lm import HttpLM
from searchrl.reward.head import HttpReranker
from tests.servers.openai import Server, running

SCHEMAS = [
    answers.ModelList,
    answers.TokenList,
    answers.ChatCompletion,
    answers.EchoedCompletion,
    answers.GeneratedCompletion,
    answers.EmbeddingList,
    answers.RerankedList,
]

HOSTILE: dict[str, str] = {
    "nothing": "",
    "deep list": "[" * 200_000,
    "deep object": '{"a":' * 50_000,
    "deep in place": '{"data": ' + "[" * 5000 + "]" * 5000 + "}",
    "null": "null",
    "a text": '"x"',
    "a number": "10e400",
    "choices of strings": '{"choices": ["a", "b"]}',
    "no choices": '{"choices": []}',
    "content a list": '{"choices": [{"message": {"content": [{"type": "text", "text": "x"}]}}]}',
    "message null": '{"choices": [{"message": null}]}',
    "data a string": '{"data": "x", "results": "x", "tokens": "x"}',
    "entries null": '{"data": [null], "results": [null], "tokens": [null]}',
    "an id that is half a character": '{"data": [{"id": "\\ud800"}]}',
    "infinite": '{"data": [{"index": 0, "embedding": [Infinity]}], '
    '"results": [{"index": 0, "relevance_score": -Infinity}]}',
    "huge": '{"data": [{"index": 0, "embedding": [1e400]}], "results": [{"index": 0, "relevance_score": 1e400}]}',
    "digits": '{"tokens": [' + "9" * 400 + '], "data": [{"index": ' + "9" * 400 + ', "embedding": [1]}]}',
    "index twice": '{"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}',
    "index out of range": '{"data": [{"index": 7, "embedding": [1]}], "results": [{"index": 7, "relevance_score": 1}]}',
    "negative tokens": '{"tokens": [-1]}',
    "no tokens": '{"tokens": []}',
    "NaN": '{"data": [{"index": 0, "embedding": [NaN]}], "results": [{"index": 0, "relevance_score": NaN}]}',
    "likelier than certain": '{"choices": [{"logprobs": {"token_logprobs": [null, 5.0, 5.0, 5.0]}}]}',
}

ASKED: dict[str, Callable[[str], Any]] = {
    "models": lambda url: HttpLM(url, attempts=1).name,
    "likelihood": lambda url: HttpLM(url, "m", attempts=1).continuation_logprobs(["a context"], [" more"]),
    "choice": lambda url: HttpLM(url, "m", attempts=1).choice_logprobs(["prompt"], ["Yes", "No"]),
    "text": lambda url: HttpLM(url, "m", attempts=1).generate(["prompt"], max_new_tokens=3),
    "vectors": lambda url: HttpEncoder(url, "m", attempts=1).encode(["text"]),
    "relevance": lambda url: HttpReranker(url, "m", attempts=1).score(["query"], ["document"]),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(Server(hostile=True)) as server:
        yield server


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("answer", HOSTILE)
def test_an_answer_of_another_shape_is_one_error(server: Server, asked: str, answer: str) -> None:
    server.faults.clear()
    models = json.dumps({"data": [{"id": "m"}]})
    if asked == "models":
        server.faults.extend([HOSTILE[answer]] * 3)
    else:
        server.faults.extend([models, *[HOSTILE[answer]] * 3])
    with pytest.raises((EngineError, ModelError)) as error:
        ASKED[asked](server.url)
    assert server.url in str(error.value) or "m " in str(error.value)
    str(error.value).encode("utf-8")
    server.faults.clear()


def test_a_server_without_tokens_is_no_certainty(server: Server) -> None:
    server.faults.extend([json.dumps({"data": [{"id": "m"}]}), '{"tokens": [1, 2]}', '{"tokens": []}'])
    with closing(HttpLM(server.url, "m", attempts=1)) as lm, pytest.raises(EngineError, match="no tokens for ' more'"):
        lm.continuation_logprobs(["a context"], [" more"])
    server.faults.clear()


def test_vectors_keep_their_width(server: Server) -> None:
    def vectors(width: int) -> str:
        return json.dumps({"data": [{"index": 0, "embedding": [1.0] * width}]})

    server.faults.extend([json.dumps({"data": [{"id": "m"}]}), vectors(4), vectors(5)])
    encoder = HttpEncoder(server.url, "m", attempts=1, batch_size=1, concurrency=1)
    with closing(encoder), pytest.raises(EngineError, match=r"vectors of \[4, 5\] numbers"):
        encoder.encode(["a", "b"])
    server.faults.clear()


def test_a_meta_that_is_none_is_ignored(server: Server) -> None:
    server.faults.append(json.dumps({"data": [{"id": "m", "meta": "large", "owned_by": None}]}))
    with closing(HttpLM(server.url)) as lm:
        assert (lm.name, lm.parameters) == ("m", None)


@pytest.mark.parametrize("said", ["\u00b2", "soon", "-5", "1e3", "nan", "9" * 400, "Fri, 99 Foo 2024"])
def test_any_retry_after_is_survived(server: Server, said: str) -> None:
    server.retry_after = said
    server.faults.extend([503, json.dumps({"data": [{"id": "m"}]})])
    client = HttpClient(server.url, attempts=2, backoff=0.0)
    started = time.monotonic()
    with closing(client):
        if said == "9" * 400:
            client = HttpClient(server.url, attempts=1)
            with pytest.raises(EngineError):
                client.get("/v1/models", answers.ModelList)
            client.close()
        else:
            assert client.get("/v1/models", answers.ModelList).data[0].id == "m"
    assert time.monotonic() - started < 5
    server.faults.clear()
    server.retry_after = "0"


def test_a_byte_now_and_then_is_no_answer() -> None:
    with running(Server(drips=0.05)) as server, closing(HttpClient(server.url, timeout=0.5, attempts=1)) as client:
        started = time.monotonic()
        with pytest.raises(EngineError, match=r"not done within 0\.5 s"):
            client.get("/v1/models", answers.ModelList)
        assert time.monotonic() - started < 2


@contextmanager
def raw_server(answer: bytes, seconds: float) -> Iterator[str]:
    """Sends an answer byte by byte, its head included."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop = threading.Event()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                for byte in answer:
                    if stop.wait(seconds):
                        return
                    try:
                        connection.send(bytes([byte]))
                    except OSError:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


def test_a_head_that_never_ends_is_no_answer() -> None:
    head = b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000
    with raw_server(head, 0.05) as url, closing(HttpClient(url, timeout=0.5, attempts=1)) as client:
        started = time.monotonic()
        with pytest.raises(EngineError, match=r"not done within 0\.5 s"):
            client.get("/v1/models", answers.ModelList)
        assert time.monotonic() - started < 2


def test_an_answer_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_wire, "MOST_BYTES", 5_000_000)
    with running(Server(floods=100_000_000)) as server, closing(HttpClient(server.url)) as client:
        started = time.monotonic()
        with pytest.raises(EngineError, match="more than 5000000 bytes"):
            client.get("/v1/models", answers.ModelList)
        assert time.monotonic() - started < 5


def test_a_closed_client_says_so() -> None:
    client = HttpClient("http://127.0.0.1:9", attempts=1)
    client.close()
    with pytest.raises(EngineError, match="connection is closed"):
        client.get("/v1/models", answers.ModelList)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "data id meta owned_by tokens choices message content logprobs token_logprobs token logprob "
                "top_logprobs index embedding results relevance_score".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=JSON, schema=st.sampled_from(SCHEMAS))
def test_any_json_is_the_schema_or_an_error(value: Any, schema: type[answers.Answer]) -> None:
    content = json.dumps(value).encode()
    found: answers.Answer | None = None
    with suppress(EngineError):  # nothing else may come
        found = answers.decode(schema, content, "http://server/x")
    assert found is None or isinstance(found, schema)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200), schema=st.sampled_from(SCHEMAS))
def test_any_bytes_are_the_schema_or_an_error(content: bytes, schema: type[answers.Answer]) -> None:
    with pytest.raises(EngineError):
        answers.decode(schema, content + b"}", "http://server/x")
