"""``/v1/embeddings`` and ``/v1/models`` as OpenAI's clients expect them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from searchrl.service import openai
from tests.service.parts import client

TEXTS = ["red apple", "blue sky", "naïve café — 東京 🗼"]


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client(tmp_path_factory.mktemp("corpora"), max_items=50) as ready:
        yield ready


def embed(asking: TestClient, given: Any, **more: Any) -> list[Any]:
    answer = asking.post("/v1/embeddings", json={"model": "any", "input": given, **more})
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert [one["index"] for one in content["data"]] == list(range(len(content["data"])))
    assert content["usage"]["prompt_tokens"] >= 1
    return [one["embedding"] for one in content["data"]]


def test_embeddings_are_those_of_embed_as_numbers_and_as_float32(asking: TestClient) -> None:
    expected = asking.post("/embed", json={"texts": TEXTS}).json()["embeddings"]
    assert np.allclose(embed(asking, TEXTS), expected)
    for given, packed in zip(expected, embed(asking, TEXTS, encoding_format="base64", user="me"), strict=True):
        assert np.allclose(np.frombuffer(base64.b64decode(packed), "<f4"), given)
    assert embed(asking, TEXTS[0]) == embed(asking, TEXTS[:1])
    assert len(embed(asking, ["", "x"])) == 2


def test_dimensions_other_than_the_encoders_are_refused(asking: TestClient) -> None:
    size = len(embed(asking, "x")[0])
    assert embed(asking, "x", dimensions=size) == embed(asking, "x")
    answer = asking.post("/v1/embeddings", json={"input": "x", "dimensions": size - 1})
    assert (answer.status_code, f"have {size}" in answer.json()["error"]["message"]) == (400, True)


@pytest.mark.parametrize("given", [[1, 2], [[1, 2], [3]]])
def test_token_ids_are_refused_with_the_way_out(
    asking: TestClient, given: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))  # where its file is not
    answer = asking.post("/v1/embeddings", json={"input": given})
    assert answer.status_code == 400
    assert "check_embedding_ctx_length=False" in answer.json()["error"]["message"]


@pytest.mark.parametrize("given", [[1, 2], [[1, 2]]])
def test_token_ids_are_decoded_where_they_can_be(
    asking: TestClient, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    own = tiktoken.Encoding(
        "own", pat_str=r"\w+|\s", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
    )
    monkeypatch.setattr(openai, "_cl100k_base", lambda: own)
    ids = own.encode("red apple")
    assert embed(asking, ids if isinstance(given[0], int) else [ids]) == embed(asking, ["red apple"])
    assert asking.post("/v1/embeddings", json={"input": [10_000]}).status_code == 400


@pytest.mark.parametrize("given", [[], None, {"a": 1}, [None], [-1], ["x"] * 51, [[]]])
def test_input_that_is_none_is_refused(asking: TestClient, given: Any) -> None:
    answer = asking.post("/v1/embeddings", json={"input": given})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_models_are_listed_and_found(asking: TestClient) -> None:
    page = asking.get("/v1/models").json()
    assert page["object"] == "list"
    first = page["data"][0]
    assert first == {"id": "all-MiniLM-L6-v2", "object": "model", "created": 0, "owned_by": "searchrl"}
    assert asking.get(f"/v1/models/{first['id']}").json() == first
    missing = asking.get("/v1/models/org/none")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "invalid_request_error")


def test_every_error_on_these_paths_has_openais_form(tmp_path: Path) -> None:
    with client(tmp_path, token="sesame", max_body=1000) as asking:
        known = {"Authorization": "Bearer sesame"}
        told = asking.get("/v1/models").json()["error"]
        assert (told["message"], told["type"]) == ("a bearer token is needed", "authentication_error")
        for answer in (
            asking.get("/v1/none", headers=known),
            asking.get("/v1/embeddings", headers=known),
            asking.post("/v1/embeddings", json={"input": "x" * 2000}, headers=known),
            asking.post("/v2/rerank", content=b"{", headers={**known, "Content-Type": "application/json"}),
        ):
            assert answer.status_code in (400, 404, 405, 413)
            assert answer.json()["error"]["message"]
