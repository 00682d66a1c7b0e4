"""What the service answers, and what it refuses, over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from searchrl.models.loader import ModelLoader
from searchrl.search.services import Services
from searchrl.service import ServerConfig
from searchrl.service.app import create_app
from searchrl.service.middleware import Disconnect
from searchrl.service.service import Service
from tests.service.parts import Backwards, Overlap, client, config_of, ids, jsonl
from tests.tiny import WordEncoder, corpus_of, retriever_of

TEXTS = ("red apple", "green apple", "red car", "blue sky", "red red car park")


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client(tmp_path_factory.mktemp("corpora"), max_items=50, max_queue=100, max_body=60_000) as ready:
        assert ready.put("/corpora/things", content=jsonl(*TEXTS)).status_code == 201
        yield ready


def test_single_pass_ranks_as_the_retriever_does(asking: TestClient) -> None:
    answer = asking.post("/search", json={"corpus": "things", "queries": ["green apple", "red car"], "k": 2})
    retriever = retriever_of(corpus_of(*TEXTS), depth=2)
    expected = retriever.search(retriever.queries(["green apple", "red car"]))
    for i, result in enumerate(answer.json()["results"]):
        assert (result["query_id"], result["steps"]) == (i, None)
        assert [key["key_id"] for key in result["keys"]] == [f"d{d}" for d in expected.documents[i]]
        assert [key["score"] for key in result["keys"]] == pytest.approx(expected.scores[i].tolist(), abs=1e-6)
        assert [key["key"] for key in result["keys"]] == [TEXTS[d] for d in expected.documents[i]]
        assert {key["relevance"] for key in result["keys"]} == {None}


def test_hybrid_search_counts_words_too(asking: TestClient) -> None:
    asked = {"corpus": "things", "queries": ["park"], "k": 1}
    hybrid = asking.post("/search", json={**asked, "retriever": "hybrid"})
    assert ids(hybrid) == ["d4"]
    assert hybrid.json() != asking.post("/search", json=asked).json()


def test_relevance_of_found_documents_is_the_reward_models(asking: TestClient) -> None:
    asked = {"corpus": "things", "queries": ["red car", "sky"], "k": 3, "return_relevance": True}
    for result in asking.post("/search", json=asked).json()["results"]:
        for key in result["keys"]:
            assert key["relevance"] == len(set(result["query"].split()) & set(key["key"].split()))


def test_given_keys_are_ranked_by_relevance(asking: TestClient) -> None:
    keys = ["none of it", "red car", "red"]
    answer = asking.post("/search", json={"queries": ["red car"], "keys": keys, "k": 2, "return_relevance": True})
    found = answer.json()["results"][0]["keys"]
    assert [(key["key_id"], key["key"], key["relevance"]) for key in found] == [(1, "red car", 2.0), (2, "red", 1.0)]


def test_relevance_has_a_row_a_query_and_a_column_a_key(asking: TestClient) -> None:
    answer = asking.post("/relevance", json={"queries": ["a b", "c"], "keys": ["a", "b a", "c"]})
    assert answer.json() == {"relevance": [[1, 2, 0], [0, 0, 1]]}


def test_embed_and_generate(asking: TestClient) -> None:
    vectors = asking.post("/embed", json={"texts": ["red apple", "red apple", "sky"]}).json()["embeddings"]
    assert vectors[0] == vectors[1] != vectors[2]
    assert sum(x * x for x in vectors[0]) == pytest.approx(1.0)
    assert asking.post("/generate", json={"prompts": ["abc", "de"], "max_new_tokens": 2}).json() == {
        "texts": ["cb", "ed"]
    }


def test_corpora_are_listed_replaced_and_forgotten(asking: TestClient) -> None:
    assert asking.put("/corpora/other", content=jsonl("one")).status_code == 201
    assert asking.put("/corpora/other", content=jsonl("one", "two")).status_code == 200
    assert asking.get("/corpora/other").json()["documents"] == 2
    assert [c["name"] for c in asking.get("/corpora").json()["corpora"]] == ["other", "things"]
    assert asking.delete("/corpora/other").status_code == 204
    assert asking.delete("/corpora/other").status_code == 404
    assert asking.post("/search", json={"corpus": "other", "queries": ["x"]}).status_code == 404


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ('{"_id": "a"}', "line 1: the field 'text'"),
        ('{"_id": "a", "text": "x"}\nnonsense', "line 2: not JSON"),
        ('{"_id": "a", "text": "x"}\n\n[]', "line 3: a JSON object"),
        ('{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}', "line 2: the id 'a' was used before, in line 1"),
        ('{"_id": 7, "text": "x"}', "must be a string"),
        ('{"_id": "a", "text": "\\ud800"}', "surrogate"),
        (b'{"_id": "a", "text": "\xff"}', "line 1: not JSON in UTF-8"),
        ("[" * 100_000, "line 1: not JSON"),
    ],
)
def test_a_bad_upload_is_refused_with_its_line_and_changes_nothing(
    asking: TestClient, content: str | bytes, message: str
) -> None:
    answer = asking.put("/corpora/things", content=content)
    assert answer.status_code == 422
    assert message in answer.json()["detail"][0]["msg"]
    assert asking.get("/corpora/things").json()["documents"] == len(TEXTS)


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        ("/search", {"corpus": "nothing", "queries": ["x"]}, 404),
        ("/search", {"corpus": "Things", "queries": ["x"]}, 422),
        ("/search", {"corpus": "things", "queries": ["x"], "keys": ["y"]}, 422),
        ("/search", {"queries": ["x"]}, 422),
        ("/search", {"corpus": "things", "queries": []}, 422),
        ("/search", {"corpus": "things", "queries": ["x"], "k": 101}, 422),
        ("/search", {"corpus": "things", "queries": ["x"], "kk": 3}, 422),
        ("/search", {"corpus": "things", "queries": ["x"], "strategy": "agent"}, 409),
        ("/search", {"keys": ["x"], "queries": ["x"], "strategy": "agent"}, 422),
        ("/search", {"corpus": "things", "queries": ["x"] * 51}, 422),
        ("/relevance", {"queries": ["x"] * 8, "keys": ["y"] * 8}, 422),
        ("/embed", {"texts": ["x" * 20_001]}, 422),
        ("/embed", {"texts": ["x" * 10_000] * 7}, 413),
        ("/generate", {"prompts": ["x" * 2000]}, 422),
        ("/generate", {"prompts": ["x"], "temperature": -1}, 422),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_reason(
    asking: TestClient, path: str, asked: dict[str, object], status: int
) -> None:
    answer = asking.post(path, json=asked)
    assert answer.status_code == status
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    "content", [b'{"texts": ["\\ud800"]}', b'{"\\ud800": 1}', b'{"texts": [NaN]}', b"{", b"\xff", b"[" * 50_000]
)
def test_no_body_is_more_than_a_clients_mistake(asking: TestClient, content: bytes) -> None:
    answer = asking.post("/embed", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


def test_a_body_of_unknown_length_is_counted(asking: TestClient) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"texts": ["'
        for _ in range(100):
            yield b"x" * 1000
        yield b'"]}'

    answer = asking.post("/embed", content=pieces(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_a_body_that_does_not_say_that_it_is_json(asking: TestClient) -> None:
    """As ``curl -d`` sends it."""
    body = json.dumps({"texts": ["a"]})
    for headers in ({"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "text/plain"}, {}):
        answer = asking.post("/embed", content=body, headers=headers)
        assert answer.status_code == 415
        assert "Content-Type: application/json" in answer.json()["detail"]
    for kind in ("application/json", "application/json; charset=utf-8", "application/vnd.api+json"):
        assert asking.post("/embed", content=body, headers={"Content-Type": kind}).status_code == 200


def test_other_host_names_are_not_served(asking: TestClient) -> None:
    assert asking.get("/healthz", headers={"Host": "evil.example"}).status_code == 400
    for name in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert asking.get("/healthz", headers={"Host": name}).status_code == 200
    for path in ("/", "/corpora", "/docs", "/openapi.json", "/metrics"):
        assert asking.get(path, headers={"Host": "evil.example"}).status_code == 400
    assert asking.put("/corpora/a", content=jsonl("x"), headers={"Host": "evil.example"}).status_code == 400


def test_a_host_name_may_be_allowed(tmp_path: Path) -> None:
    assert ServerConfig(allow_host=("Search.Local",)).hosts >= {"search.local", "localhost", "127.0.0.1"}
    assert not ServerConfig(host="0.0.0.0").hosts, "whoever listens on all networks has a name of his own"


def test_metrics_count_requests_and_batches(asking: TestClient) -> None:
    asking.post("/embed", json={"texts": ["a"]})
    asking.get("/no/such/path")
    text = asking.get("/metrics").text
    assert 'searchrl_requests_total{route="/embed",status="200"}' in text
    assert 'searchrl_requests_total{route="other",status="404"}' in text
    assert 'searchrl_batch_items_count{work="Embed"}' in text
    assert "searchrl_corpora 1.0" in text


def test_page_asks_for_nothing_from_outside(asking: TestClient) -> None:
    for path in ("/", "/page.js", "/page.css"):
        answer = asking.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "//" not in answer.text.replace("// ", "").replace("</", "")


def test_models_are_closed_when_the_service_is(tmp_path: Path) -> None:
    closed: list[str] = []
    config, loader = config_of(tmp_path), ModelLoader(device="cpu", cache=False)
    loader.opened("a model", lambda: closed.append("models"))
    models = Services(None, Backwards(), WordEncoder(), scorer=Overlap(), engine=loader)
    with TestClient(create_app(Service(config, models), config), base_url="http://127.0.0.1") as asking:
        assert asking.post("/embed", json={"texts": ["a"]}).status_code == 200
        assert not closed
    assert closed == ["models"]


def test_token_is_asked_for_where_one_is_set(tmp_path: Path) -> None:
    with client(tmp_path, token="sesame") as asking:
        for headers in (
            {},
            {"Authorization": "Bearer sesam"},
            {"Authorization": "Basic sesame"},
            {"Authorization": "Bearer ü"},
        ):
            raw = {name: value.encode("latin-1") for name, value in headers.items()}
            assert asking.get("/corpora", headers=raw).status_code == 401
            assert asking.put("/corpora/a", content=jsonl("x"), headers=raw).status_code == 401
            assert asking.get("/metrics", headers=raw).status_code == 401
        known = {"Authorization": "Bearer sesame"}
        assert asking.put("/corpora/a", content=jsonl("x"), headers=known).status_code == 201
        assert asking.get("/corpora", headers=known).status_code == 200
        for path in ("/", "/page.js", "/healthz", "/readyz", "/docs", "/openapi.json"):
            answer = asking.get(path)
            assert answer.status_code == 200
            assert "sesame" not in answer.text, "what is open says nothing about corpora or the token"
            assert '"a"' not in answer.text


def test_the_token_is_in_no_answer_and_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    known, wrong = {"Authorization": "Bearer sesame"}, {"Authorization": "Bearer sesame2"}
    with client(tmp_path, token="sesame") as asking:
        answers = [
            asking.get("/corpora", headers=wrong),
            asking.put("/corpora/a", content="no json", headers=known),
            asking.post("/search", json={"queries": 3}, headers=known),
            asking.post("/search", content=b"{", headers=known),
            asking.post("/generate", json={"prompts": ["x" * 1001]}, headers=known),
            asking.get("/metrics", headers=known),
        ]
    assert {answer.status_code // 100 for answer in answers} == {2, 4}
    written = [answer.text for answer in answers] + [str(path) for path in tmp_path.rglob("*")]
    assert "sesame" not in "".join([*written, caplog.text])


def test_limits_of_an_upload(tmp_path: Path) -> None:
    with client(tmp_path, max_documents=40, max_corpus=5000) as asking:
        assert asking.put("/corpora/a", content=jsonl(*["x"] * 40)).status_code == 201
        assert asking.put("/corpora/a", content=jsonl(*["x"] * 41)).status_code == 413
        assert asking.put("/corpora/a", content=jsonl("x" * 6000)).status_code == 413
        assert asking.get("/corpora/a").json()["documents"] == 40
        assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["a@00000001"]


def test_an_upload_packed_by_gzip(tmp_path: Path) -> None:
    """Told by its first bytes, with and without the header; the limits are of what is in it."""
    packed = gzip.compress(jsonl("bread", "tide").encode())
    with client(tmp_path, max_corpus=5000) as asking:
        for content, headers in ((packed, {"Content-Encoding": "gzip"}), (packed, {})):
            assert asking.put("/corpora/a", content=content, headers=headers).status_code in (200, 201)
            assert asking.get("/corpora/a").json()["documents"] == 2
        assert asking.put("/corpora/a", content=iter([packed[:1], packed[1:9], packed[9:]])).is_success
        for content, status, said in (
            (packed[:-9], 422, "ends too early"),
            (packed[:12] + b"\xff" * 20, 422, "packed by gzip"),
            (gzip.compress(jsonl("x" * 6000).encode(), mtime=0), 413, "max_corpus"),
        ):
            answer = asking.put("/corpora/a", content=content)
            assert answer.status_code == status
            assert said in answer.text
        assert asking.get("/corpora/a").json()["documents"] == 2, "as it was"


def test_very_long_line_is_refused(tmp_path: Path) -> None:
    with client(tmp_path) as asking:
        assert asking.put("/corpora/a", content=json.dumps({"_id": "a", "text": "x" * 1_000_001})).status_code == 413


def test_who_has_sent_a_whole_answer_may_finish_in_peace() -> None:
    """A server reports a disconnect after every whole answer, too."""
    sent: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await Response("x")(scope, receive, send)
        await asyncio.sleep(0.01)
        sent.append("finished")

    async def main() -> None:
        asked, whole = asyncio.Event(), asyncio.Event()

        async def receive() -> Message:
            if not asked.is_set():
                asked.set()
                return {"type": "http.request", "body": b""}
            await whole.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message["type"])
            if message["type"] == "http.response.body":
                whole.set()

        await Disconnect(app)({"type": "http", "method": "POST", "path": "/"}, receive, send)

    asyncio.run(main())
    assert sent == ["http.response.start", "http.response.body", "finished"]
