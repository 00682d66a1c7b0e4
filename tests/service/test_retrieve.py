"""``/retrieve`` answers each trainer's own payload in the shape that the trainer reads, and is never a 429."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from searchrl.service.app import create_app
from searchrl.service.service import Service
from searchrl.service.upload import Refused
from tests.service.parts import client, config_of, services

DOCUMENTS = (
    {"_id": "a", "title": "Apples", "text": "red apple"},
    {"_id": "b", "text": "red car"},
    {"_id": "c", "title": "The\nsky", "text": "blue sky"},
)
UPLOAD = "\n".join(map(json.dumps, DOCUMENTS))


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client(tmp_path_factory.mktemp("corpora"), max_items=4, max_queue=4, max_body=400, max_wait=1e-9) as ready:
        assert ready.put("/corpora/things", content=UPLOAD).status_code == 201
        yield ready


def retrieve(asking: TestClient, **payload: Any) -> Any:
    answer = asking.post("/retrieve", json=payload)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_search_r1_and_verl_get_documents_with_scores(asking: TestClient) -> None:
    first, second = retrieve(asking, queries=["red car", "sky"], topk=2, return_scores=True)["result"]
    assert first[0]["document"] == {"id": "b", "contents": "\nred car"}  # no title: its line is empty
    assert second[0]["document"] == {"id": "c", "contents": '"The sky"\nblue sky'}
    assert [len(first), len(second)] == [2, 2]
    assert first[0]["score"] > first[1]["score"]


def test_skyrl_sends_one_query_and_reads_a_list_of_lists(asking: TestClient) -> None:
    (hits,) = retrieve(asking, query="red car", topk=1, return_scores=True)["result"]
    assert [hit["document"]["id"] for hit in hits] == ["b"]


def test_slime_wants_no_scores_and_reads_contents_at_the_top(asking: TestClient) -> None:
    assert retrieve(asking, queries=["sky"], topk=1, return_scores=False) == {
        "result": [[{"id": "c", "contents": '"The sky"\nblue sky'}]]
    }


def test_a_whole_step_at_once_is_answered_in_order_whatever_it_holds(asking: TestClient) -> None:
    """2,560 queries: more than other paths take in number, bytes and waiting. Odd ones keep their place."""
    queries = ["red car" + " " * i for i in range(2556)] + ["", " ", "sky " * 6000, "sky"]
    results = retrieve(asking, queries=queries, topk=1, return_scores=True)["result"]
    ids = [[hit["document"]["id"] for hit in hits] for hits in results]
    assert ids == [["b"]] * 2556 + [[], [], ["c"], ["c"]]


def test_a_step_in_which_nobody_searches(asking: TestClient) -> None:
    assert retrieve(asking, queries=[], topk=3, return_scores=True) == {"result": []}


def test_how_many_documents_may_be_left_out(asking: TestClient) -> None:
    assert len(retrieve(asking, queries=["red"])["result"][0]) == 3
    assert len(retrieve(asking, queries=["red"], topk=None)["result"][0]) == 3


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"queries": 7},
        {"queries": [None]},
        {"queries": ["x"], "topk": -1},
        {"queries": ["x"], "topk": 101},
        {"queries": ["x"], "query": "x"},
        {"queries": ["x"] * 4097},
    ],
)
def test_a_malformed_request_is_the_clients_fault(asking: TestClient, payload: Any) -> None:
    answer = asking.post("/retrieve", json=payload)
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_the_body_has_a_limit_too(tmp_path: Path) -> None:
    with client(tmp_path, max_rollout=2) as asking:
        assert asking.post("/retrieve", json={"query": "x" * 8000}).status_code == 413


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("zerosearch", [{"text": '"Apples"\nred apple'}]),
        ("rllm", {"results": [{"id": "a", "content": '"Apples"\nred apple', "score": pytest.approx(0.5, abs=0.6)}]}),
    ],
)
def test_forms_of_trainers_that_send_the_same_keys(tmp_path: Path, form: Any, expected: Any) -> None:
    config = replace(config_of(tmp_path), retrieve_form=form)
    with TestClient(create_app(Service(config, services()), config), base_url="http://127.0.0.1") as asking:
        while asking.get("/readyz").status_code != 200:
            pass
        asking.put("/corpora/things", content=UPLOAD)
        assert retrieve(asking, query="apple", top_k=1) == expected
        assert retrieve(asking, queries=["apple"], topk=1)["result"][0][0]["id"] == "a"


def test_the_default_corpus_is_the_named_one_or_the_only_one(tmp_path: Path) -> None:
    with client(tmp_path) as asking:
        asked = {"queries": ["red"]}
        none = asking.post("/retrieve", json=asked)
        assert (none.status_code, "PUT /corpora/NAME" in none.json()["detail"]) == (409, True)
        for name in ("one", "two"):
            asking.put(f"/corpora/{name}", content=UPLOAD)
        both = asking.post("/retrieve", json=asked)
        assert (both.status_code, "`corpus`" in both.json()["detail"]) == (409, True)
    config = replace(config_of(tmp_path), corpus="two")
    with TestClient(create_app(Service(config, services()), config), base_url="http://127.0.0.1") as asking:
        while asking.get("/readyz").status_code != 200:
            pass
        assert asking.post("/retrieve", json=asked).status_code == 200


def test_a_token_is_asked_for_here_too(tmp_path: Path) -> None:
    with client(tmp_path, token="sesame") as asking:
        assert asking.post("/retrieve", json={"query": "x"}).status_code == 401


def test_a_service_that_is_stopped_says_so(tmp_path: Path) -> None:
    async def main() -> int:
        service = Service(config_of(tmp_path), services())
        await service.start()

        async def upload() -> AsyncIterator[bytes]:
            yield UPLOAD.encode()

        await service.put("things", upload())
        service.worker.close()
        try:
            await service.rollout(["red"], 1)
        except Refused as refused:
            return refused.status
        return 200

    assert asyncio.run(main()) == 503
