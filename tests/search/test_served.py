"""A search whose scorer is behind a server, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from searchrl import Search, Services
from searchrl.config import EngineConfig
from searchrl.device import DeviceChoice
from searchrl.errors import ConfigError, EngineError
from searchrl.models.encoder import Encoder
from searchrl.models.transformers_lm import TransformersLM
from tests.servers.openai import Server, running

QUERIES = [f"query {i}" for i in range(6)]
KEYS = [f"key {i} of query {i % 6}" for i in range(12)]
BEST = [[i, i + 6] for i in range(6)]
"""By common words."""


@pytest.fixture
def server(own_cache: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Reranks by common words. Nobody waits between two attempts, and nothing outlasts the test."""
    monkeypatch.setattr("searchrl.models.http_client.HttpClient._pause", lambda *_: 0.0)
    with running(Server()) as served:
        yield served


async def found(search: Search, **options: Any) -> list[list[int]]:
    """Ids of each query's two best keys."""
    async with search:
        results = await search(QUERIES, KEYS, k=2, **options)
    return [[key["key_id"] for key in result["keys"]] for result in results]


def test_a_reranker_is_served(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"scorer": "cross_encoder", "cache": False, "show_progress": False}
    assert asyncio.run(found(Search(engine="http", base_url=server.url, **settings))) == BEST
    monkeypatch.setenv("MY_KEY", "secret")
    config = EngineConfig(engine="http", base_url=server.url, engine_model="served", api_key_env="MY_KEY")
    assert asyncio.run(found(Search(engine=config, **settings))) == BEST
    assert "Bearer secret" in server.keys
    with pytest.raises(ConfigError, match="belong into the EngineConfig"):
        Search(engine=config, tensor_parallel_size=2, **settings)


@pytest.mark.parametrize("scorer", ["likelihood", "yes_no", "graded", "qwen3_reranker"])
def test_a_served_language_model_scores_as_one_in_this_process(
    server: Server, models: dict[str, Path], scorer: Any
) -> None:
    folder = str(models["qwen3_reranker" if scorer == "qwen3_reranker" else "lm"])
    server.lm = TransformersLM(folder, DeviceChoice("cpu", "float32", "tests"))

    async def relevance(search: Search) -> Any:
        async with search:
            return await search.get_relevance(QUERIES[:2], KEYS[:3])

    settings: dict[str, Any] = {"scorer": scorer, "cache": False, "show_progress": False}
    here = asyncio.run(relevance(Search(folder, device="cpu", dtype="float32", **settings)))
    there = asyncio.run(relevance(Search(engine="http", base_url=server.url, **settings)))
    np.testing.assert_allclose(there, here, atol=1e-3)
    assert len(np.unique(here.round(4))) > 1


@pytest.mark.parametrize("checkpoint", [True, False])
def test_nothing_that_a_dying_server_scored_is_lost(server: Server, tmp_path: Path, checkpoint: bool) -> None:
    def search() -> list[list[int]]:
        options = {"checkpoint": tmp_path / "c"} if checkpoint else {}
        settings = {"scorer": "head", "engine": "http", "base_url": server.url, "show_progress": False}
        return asyncio.run(found(Search(**settings), **options))

    server.breaks_after = 4
    with pytest.raises(EngineError, match=server.url):
        search()
    server.breaks_after = None
    server.asked.clear()
    assert search() == BEST
    assert server.asked.count("/v1/rerank") == 2  # of one request a query


def test_three_servers_behind_one_object(server: Server, models: dict[str, Path]) -> None:
    server.lm = TransformersLM(str(models["lm"]), DeviceChoice("cpu", "float32", "tests"))
    server.encoder = Encoder()

    async def run() -> None:
        engine = EngineConfig(engine="http", base_url=server.url)
        async with Services(scorer="head", engine=engine, cache=False, show_progress=False) as services:
            results = await services.search(QUERIES, KEYS, k=1)
            assert [result["keys"][0]["key_id"] for result in results] == [0, 1, 2, 3, 4, 5]
            assert await services.generate(["Say"], max_new_tokens=3) == server._lm.generate(["Say"], max_new_tokens=3)
            np.testing.assert_allclose(await services.embed(["rain"]), Encoder().encode(["rain"]), atol=1e-5)

    asyncio.run(run())
