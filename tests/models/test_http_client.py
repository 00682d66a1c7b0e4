from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from searchrl.errors import ConfigError, EngineError
from searchrl.models.answers import ChatCompletion, ModelList, RerankedList
from searchrl.models.http_client import HttpClient, MissingEndpoint, key_from, retry_after, served_facts
from tests.servers.openai import Server, running


@pytest.fixture
def server():
    with running(Server()) as server:
        yield server


@pytest.fixture
def client(server):
    with closing(HttpClient(server.url, attempts=3, backoff=0.01)) as client:
        yield client


def ask(client, words="a b"):
    return client.post("/v1/rerank", {"query": "a", "documents": [words]}, RerankedList)


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_the_address_may_end_as_openais_clients_want_it(server, ending):
    with closing(HttpClient(server.url + ending)) as client:
        assert client.get("/v1/models", ModelList).data[0].id == "served"


@pytest.mark.parametrize("fault", [429, 500, 502, 503, ""])
def test_what_may_pass_is_tried_again(server, client, fault):
    server.faults.extend([fault, fault])
    assert ask(client).results[0].relevance_score == 1.0
    assert server.asked == ["/v1/rerank"] * 3


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7),
        ("900", 30),
        ("in {}", 20),
        ("in {} GMT", 20),
        ("2 days ago", 0),
        ("soon", None),
        ("\u0663", None),
        ("9" * 5000, 30),
        ("Mon, 01 Jan 99999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999", None),
        ("", None),
        ("-1", None),
    ],
)
def test_the_server_says_how_long_to_wait_in_seconds_or_by_a_date(said, seconds):
    dates = {"in {}": 20, "in {} GMT": 20, "2 days ago": -172800}
    if said in dates:
        then = datetime.now(UTC) + timedelta(seconds=dates[said])
        said = format_datetime(then, usegmt="GMT" in said)
    wait = retry_after(said)
    assert wait == (None if seconds is None else pytest.approx(seconds, abs=2))


def test_what_does_not_pass_is_given_up_naming_address_and_way_out(server, client):
    server.faults.extend([503] * 9)
    with pytest.raises(
        EngineError, match=rf"{server.url}/v1/rerank fails with 503 told to say 503, 3 times; .*base URL"
    ):
        ask(client)
    assert len(server.asked) == 3


def test_a_server_that_is_not_there(server):
    client = HttpClient("http://127.0.0.1:9", attempts=2, backoff=0.01)
    with closing(client), pytest.raises(EngineError, match=r"127\.0\.0\.1:9/v1/rerank does not answer \(ConnectError"):
        ask(client)


def test_an_answer_that_does_not_come_in_time(server):
    server.delay = 0.3
    client = HttpClient(server.url, timeout=0.05, attempts=1)
    with closing(client), pytest.raises(EngineError, match=r"does not answer \(not done within 0.05 s"):
        client.post("/v1/chat/completions", {}, ChatCompletion)


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (400, EngineError, "refuses the request: 400 told to say 400"),
        (401, EngineError, "refuses the key .401.*environment variable"),
        (404, MissingEndpoint, "does not offer .*/v1/rerank: 404 told to say 404"),
        ("<html>", EngineError, "not JSON: '<html>'"),
    ],
)
def test_what_no_repetition_mends_is_said_at_once(server, client, fault, kind, says):
    server.faults.append(fault)
    with pytest.raises(kind, match=says):
        ask(client)
    assert len(server.asked) == 1


def test_the_key_travels_in_the_header_and_in_no_message(server, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret-7")
    with closing(HttpClient(server.url, api_key=key_from("A_KEY"), attempts=1)) as client:
        ask(client)
        server.faults.append(403)
        with pytest.raises(EngineError) as refusal:
            ask(client)
    assert server.keys == {"Bearer secret-7"}
    assert "secret" not in str(refusal.value)


def test_answers_keep_their_order_and_requests_their_number(server):
    server.lm = None
    with closing(HttpClient(server.url, concurrency=3)) as client:
        answers = client.each(
            [f"{'a ' * (i % 2)}w{i}" for i in range(30)], lambda words: ask(client, words).results[0].relevance_score
        )
    assert answers == [float(i % 2) for i in range(30)]
    assert 1 <= server.most_at_once <= 3


def test_a_failure_carries_what_was_answered_and_begins_nothing_more(server):
    def work(i):
        if i == 4:
            raise EngineError("four")
        return i * i

    with closing(HttpClient(server.url, concurrency=1)) as client, pytest.raises(EngineError, match="four") as failure:
        client.each(range(100), work)
    answered = failure.value.answered
    assert {i: i * i for i in range(4)}.items() <= answered.items()
    assert len(answered) == 4
    assert all(value == i * i for i, value in answered.items())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:8000",
        "ftp://host",
        "http://",
        "",
        "http://host/v1?x=1",
        "http://[::1",
        "http://host:99999",
    ],
)
def test_an_address_that_is_none(address):
    with pytest.raises(ConfigError, match="base URL"):
        HttpClient(address)


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError) as refusal:
        HttpClient("http://me:secret@host")
    assert "secret" not in str(refusal.value)


def test_a_key_that_is_not_there(monkeypatch):
    monkeypatch.delenv("NO_KEY", raising=False)
    assert key_from(None) is None
    with pytest.raises(ConfigError, match="environment variable NO_KEY"):
        key_from("NO_KEY")


def test_the_only_model_is_found_and_named_the_same_after_a_restart(server, client):
    model = served_facts(client, None)
    assert (model.name, model.server, model.parameters) == ("served", "vllm", None)
    assert served_facts(client, "served").fingerprint == model.fingerprint
    assert served_facts(client, "other").fingerprint != model.fingerprint


def test_a_server_that_lists_no_models(server, client):
    server.lacks = ("/v1/models",)
    with pytest.raises(MissingEndpoint):
        served_facts(client, None)
    assert served_facts(client, "mine").name == "mine"
