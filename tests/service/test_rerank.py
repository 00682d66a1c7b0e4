"""``/v1/rerank``, ``/v2/rerank`` and ``/rerank`` in the forms of Jina, Cohere, vLLM and TEI."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.service.parts import client

QUERY, TEXTS = "red car", ["blue sky", "red", "a red car", "blue sky"]
PATHS = ["/v1/rerank", "/v2/rerank", "/rerank"]


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client(tmp_path_factory.mktemp("corpora"), max_items=50) as ready:
        yield ready


def rerank(asking: TestClient, path: str = "/v1/rerank", **more: Any) -> Any:
    answer = asking.post(path, json={"model": "m", "query": QUERY, "documents": TEXTS, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", PATHS)
def test_documents_come_sorted_with_scores_between_0_and_1(asking: TestClient, path: str) -> None:
    answer = rerank(asking, path, unheard_of=1, truncate_prompt_tokens=-1, instruction=None)
    assert [one["index"] for one in answer["results"]] == [2, 1, 0, 3]  # equal ones in the order they came
    scores = [one["relevance_score"] for one in answer["results"]]
    assert scores == pytest.approx([1 / (1 + math.exp(-overlap)) for overlap in (2, 1, 0, 0)])
    assert all("document" not in one for one in answer["results"])
    assert isinstance(answer["id"], str)
    assert answer["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(("top_n", "count"), [(None, 4), (0, 4), (2, 2), (99, 4)])
def test_top_n_is_clipped_and_0_and_null_are_all(asking: TestClient, top_n: int | None, count: int) -> None:
    assert len(rerank(asking, top_n=top_n)["results"]) == count


def test_documents_may_be_objects_and_come_back_as_objects(asking: TestClient) -> None:
    documents = [{"text": text, "url": "x"} for text in TEXTS]
    best = rerank(asking, documents=documents, return_documents=True)["results"][0]
    assert (best["index"], best["document"]) == (2, {"text": "a red car"})
    fields = [{"title": "t", "body": text} for text in TEXTS]
    assert rerank(asking, documents=fields, rank_fields=["title", "body"])["results"][0]["index"] == 2


def test_tei_is_told_by_its_keys(asking: TestClient) -> None:
    asked = {"query": QUERY, "texts": TEXTS, "raw_scores": True, "return_text": True, "truncate": True}
    assert asking.post("/rerank", json=asked).json()[:2] == [
        {"index": 2, "score": 2.0, "text": "a red car"},
        {"index": 1, "score": 1.0, "text": "red"},
    ]
    (best, *_) = asking.post("/rerank", json={"query": QUERY, "texts": TEXTS}).json()
    assert best == {"index": 2, "score": pytest.approx(1 / (1 + math.exp(-2)))}


@pytest.mark.parametrize(
    "payload",
    [
        {"documents": TEXTS},
        {"query": QUERY},
        {"query": QUERY, "documents": []},
        {"query": "", "documents": TEXTS},
        {"query": QUERY, "documents": [{"image": "x"}]},
        {"query": QUERY, "documents": ["x"] * 51},
        {"query": QUERY, "documents": TEXTS, "top_n": -1},
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_mistakes_are_told_as_each_path_has_it(asking: TestClient, path: str, payload: Any) -> None:
    answer = asking.post(path, json=payload)
    assert answer.json()["detail"]
    if path == "/rerank":
        assert answer.status_code == 422
    else:
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == answer.json()["detail"]
        assert answer.json()["error"]["type"] == "invalid_request_error"
