"""Rankings from Milvus are those of the index in memory, and an ingest that is killed loses nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from searchrl.config import IndexConfig
from searchrl.data.dataset import Corpus, Dataset
from searchrl.errors import ConfigError, EngineError
from searchrl.retrieval.build import build_index
from searchrl.retrieval.index import Index, pair_scores, top_terms
from searchrl.retrieval.retriever import Retriever
from searchrl.search.corpus import Asked, SinglePass
from searchrl.service.corpora import CorpusStore
from tests.servers.milvus import MilvusServer
from tests.tiny import WordEncoder, corpus_of

pytest.importorskip("pymilvus", reason="the extra milvus is not installed")
pytest.importorskip("milvus_lite", reason="the extra milvus is not installed")

from searchrl.retrieval.milvus import ingest as ingesting
from searchrl.retrieval.milvus.index import MilvusIndex
from searchrl.retrieval.milvus.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    running = MilvusServer(tmp_path_factory.mktemp("milvus") / "data")
    running.start()
    yield running
    running.kill()


def milvus(server: MilvusServer) -> IndexConfig:
    return IndexConfig("milvus", server.uri)


def assert_same(first: Index, second: Index, dataset: Dataset, encoder: WordEncoder, depth: int) -> None:
    queries = dataset.splits["test"]
    one, other = (Retriever(encoder, index, 0.5, depth) for index in (first, second))
    asked = one.queries(queries.texts)
    exclude = np.arange(len(asked), dtype=np.int32) % 7 - 1
    for share in (0.0, 0.3, 1.0):
        part = one.queries(queries.texts, share, asked.vectors)
        expected, found = one.search(part, exclude), other.search(part, exclude)
        np.testing.assert_array_equal(found.documents, expected.documents)
        np.testing.assert_array_equal(found.scores, expected.scores)


def test_rankings_are_those_of_memory(server: MilvusServer, small_dataset: Dataset) -> None:
    encoder, corpus = WordEncoder(), small_dataset.corpus
    memory = build_index(corpus, encoder, None, IndexConfig())
    stored = build_index(corpus, encoder, None, milvus(server))
    for depth in (5, 100, 200):
        assert_same(memory, stored, small_dataset, encoder, depth)
    some = np.array([[3, 1], [0, 3]], dtype=np.int32)
    np.testing.assert_array_equal(stored.vectors(some), memory.vectors(some))
    terms = memory.query_terms(small_dataset.splits["test"].texts[:2])
    assert (stored.query_terms(small_dataset.splits["test"].texts[:2]) != terms).nnz == 0
    np.testing.assert_array_equal(pair_scores(stored, terms, some), pair_scores(memory, terms, some))
    np.testing.assert_array_equal(top_terms(stored, 2, 5), top_terms(memory, 2, 5))
    np.testing.assert_array_equal(stored.idf, memory.idf)
    assert stored.texts(some[0]) == memory.texts(some[0])


def test_ties_and_documents_without_words(server: MilvusServer) -> None:
    corpus = corpus_of(*["whales sing"] * 40, "", "sharks swim", "the of", *["whales sing"] * 30)
    encoder = WordEncoder()
    memory = build_index(corpus, encoder, None, IndexConfig())
    stored = build_index(corpus, encoder, None, milvus(server))
    for share in (0.0, 0.5, 1.0):
        one, other = (Retriever(encoder, index, share, 10) for index in (memory, stored))
        queries = one.queries(["whales", "sharks", "zebra"])
        expected, found = one.search(queries), other.search(queries)
        np.testing.assert_array_equal(found.documents, expected.documents)
        np.testing.assert_array_equal(found.scores, expected.scores)


def test_what_is_there_is_not_brought_again(server: MilvusServer) -> None:
    corpus, encoder = corpus_of("one whale", "two sharks"), WordEncoder()
    build_index(corpus, encoder, None, milvus(server))
    before = encoder.encoded
    assert len(build_index(corpus, encoder, None, milvus(server))) == 2
    assert encoder.encoded == before


def connected(config: IndexConfig) -> Server:
    """A connection to a server that has just come back: the channel waits a second or two before it tries again."""
    for _ in range(50):
        try:
            server = Server(config)
            server.collections()
        except EngineError:
            time.sleep(0.2)
        else:
            return server
    raise AssertionError("the server did not come back")


def many(count: int) -> Corpus:
    return corpus_of(*(f"document number {i} of whales {i % 13}" for i in range(count)))


def test_an_ingest_goes_on_where_client_or_server_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of four. The client dies in the middle of the third, the server in the middle of the sixth."""
    monkeypatch.setattr(ingesting, "BLOCK", 4)
    monkeypatch.setattr(ingesting, "ROWS", 2)
    running = MilvusServer(tmp_path / "data")
    running.start()
    corpus, encoder, config = many(30), WordEncoder(), IndexConfig("milvus", running.uri)
    put, calls = Server.put, 0

    def dies(self: Server, *args: object, **more: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise KeyboardInterrupt
        if calls == 19:
            running.kill()
        put(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Server, "put", dies)
    monkeypatch.setattr("searchrl.retrieval.milvus.server.SECONDS", 3.0)
    try:
        with pytest.raises(KeyboardInterrupt):
            build_index(corpus, encoder, None, config)
        monkeypatch.setattr(ingesting, "count_terms", None)  # words are counted once
        with pytest.raises(EngineError, match="Milvus at"):
            build_index(corpus, encoder, None, config)
        running.start()
        server = connected(config)
        assert all(not server.aliases(name) for name in server.collections()), "nobody sees a part"
        index = build_index(corpus, encoder, None, config)
        memory = build_index(corpus, encoder, None, IndexConfig())
        everyone = np.arange(30, dtype=np.int32)
        np.testing.assert_array_equal(index.vectors(everyone), memory.vectors(everyone))
        assert index.texts(everyone) == memory.texts(everyone)
    finally:
        running.kill()


def test_what_is_missing_in_the_middle_is_brought_again(server: MilvusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingesting, "BLOCK", 4)
    corpus, encoder, config = many(18), WordEncoder(), milvus(server)
    index = build_index(corpus, encoder, None, config)
    assert isinstance(index, MilvusIndex)
    index.server._client.delete(index.collection, ids=[5])
    index.server.unpoint(index.server.aliases(index.collection)[0])
    again = build_index(corpus, encoder, None, config)
    assert isinstance(again, MilvusIndex)
    assert again.collection == index.collection
    assert again.server.count(again.collection) == 18
    assert again.texts(np.arange(18, dtype=np.int32)) == list(corpus.texts)


def test_a_collection_whose_maker_was_killed_is_made_again(
    server: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Milvus makes a collection in one step and its indexes in the next; without these it cannot be searched."""
    connection = Server(milvus(server))

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(connection._client, "create_index", dies)
    with pytest.raises(KeyboardInterrupt):
        connection.create("half", 4, "FLAT")
    monkeypatch.undo()
    assert connection.create("half", 4, "FLAT")
    connection.load("half")
    assert connection.count("half") == 0
    assert not connection.create("half", 4, "FLAT")


def test_bad_addresses_are_one_line() -> None:
    with pytest.raises(ConfigError, match="whose name ends with"):
        Server(IndexConfig("milvus", "somewhere"))
    with pytest.raises(EngineError, match="Milvus at"):
        Server(IndexConfig("milvus", "http://127.0.0.1:9"))
    with pytest.raises(ConfigError, match="index_token_env"):
        Server(IndexConfig("milvus", "http://127.0.0.1:9", "NOBODY"))


def test_a_service_keeps_its_corpora_there(server: MilvusServer, tmp_path: Path) -> None:
    """Written by one store, read by another of the same folder; the vectors are not looked at again."""
    encoder, texts = WordEncoder(), ["whales sing", "sharks swim", "lists sort"]
    store = CorpusStore(tmp_path, encoder, indexing=milvus(server))
    writer = store.begin("sea")
    vectors = encoder.encode(texts, kind="document", show_progress=False, description="")
    writer.add([(str(i), "", text) for i, text in enumerate(texts)], vectors)
    written = store.publish("sea", writer)
    reader = CorpusStore(tmp_path, encoder, read_only=True, indexing=milvus(server))
    reader.load()
    for found in (written, reader.collections["sea"]):
        assert found.index.description == {"index": "milvus-1 FLAT"}
        (answer,) = SinglePass(found, "hybrid")([Asked("sharks", 2)])
        assert answer.keys[0][:3] == ("1", "", "sharks swim")
    store.close()
