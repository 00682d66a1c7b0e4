"""Several services of the same corpora: read-only, by settings that go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from searchrl.config import ModelConfig, RayConfig
from searchrl.errors import ConfigError
from searchrl.service import ServerConfig
from searchrl.service.corpora import CorpusStore
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
