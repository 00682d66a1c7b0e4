"""Several services of the same corpora: read-only, by settings that go together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from searchrl.config import ModelConfig, RayConfig
from searchrl.errors import ConfigError
from searchrl.service import ServerConfig
from searchrl.service.corpora import CorpusStore
from searchrl.service.replicas import Front
from tests.tiny import WordEncoder


def written(folder: Path) -> None:
    store = CorpusStore(folder, WordEncoder())
    writer = store.begin("sea")
    texts = ["whales sing", "sharks swim"]
    vectors = WordEncoder().encode(texts, kind="document", show_progress=False, description="")
    writer.add([("a", "", texts[0]), ("b", "", texts[1])], vectors)
    store.publish("sea", writer)
    store.close()


def test_readers_share_a_folder_and_leave_it_as_it_is(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / ".sea@00000002.tmp").mkdir()
    writer = CorpusStore(tmp_path, WordEncoder())
    readers = [CorpusStore(tmp_path, WordEncoder(), read_only=True) for _ in range(2)]
    before = sorted(tmp_path.rglob("*"))
    for reader in readers:
        reader.load()
        assert len(reader.collections["sea"].corpus) == 2
    assert sorted(tmp_path.rglob("*")) == before, "what another is writing is not a reader's to remove"
    with pytest.raises(ConfigError, match="in use by another service"):
        CorpusStore(tmp_path, WordEncoder())
    for store in (*readers, writer):
        store.close()


def test_replicas_need_a_cluster() -> None:
    with pytest.raises(ConfigError, match="`replicas` 2 needs `ray`"):
        ServerConfig(replicas=2)
    assert ServerConfig(replicas=2, models=ModelConfig(cluster=RayConfig("local"))).replicas == 2


class Died(Exception):
    """As Ray says it."""


class Handle:
    """Replicas of which the first so many die before they say a word; the last may die in the middle."""

    def __init__(self, deaths: int, halfway: bool = False) -> None:
        self.deaths, self.halfway, self.bodies = deaths, halfway, list[bytes]()
        self.answer = self

    async def remote(self, scope: dict[str, Any], body: bytes) -> AsyncIterator[dict[str, Any]]:
        self.bodies.append(body)
        if len(self.bodies) <= self.deaths:
            raise Died
        yield {"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["path"].encode())]}
        yield {"type": "http.response.body", "body": b"half ", "more_body": True}
        if self.halfway:
            raise Died
        yield {"type": "http.response.body", "body": b"and half"}


def asked(handle: Handle, body: bytes = b"words", most: int = 100) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Front(handle, most, Died))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.post("/search", content=body)

    return asyncio.run(ask())


@pytest.mark.parametrize("deaths", [0, 1, 2])
def test_another_replica_answers_where_one_dies(deaths: int) -> None:
    handle = Handle(deaths)
    answer = asked(handle)
    assert (answer.status_code, answer.text, answer.headers["x-path"]) == (200, "half and half", "/search")
    assert handle.bodies == [b"words"] * (deaths + 1)


def test_what_cannot_be_answered_is_said() -> None:
    handle = Handle(9)
    assert asked(handle).status_code == 503
    assert len(handle.bodies) == 3
    assert asked(Handle(0), b"x" * 101).status_code == 413
    with pytest.raises(Died):
        asked(Handle(0, halfway=True))
