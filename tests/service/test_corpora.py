"""Indexed corpora: what is on the disk is whole, in the old state or the new, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from benchmarks.service_load import connection
from searchrl.data.dataset import Corpus
from searchrl.errors import CacheError, ConfigError
from searchrl.search.corpus import Document
from searchrl.service import LimitConfig
from searchrl.service.corpora import Collection, CorpusStore, Documents
from searchrl.service.upload import Refused, in_time, lines_of
from tests.service.parts import Running, client, ids, jsonl
from tests.tiny import WordEncoder

DOCUMENTS: list[Document] = [(f"d{i}", f"Title {i % 3}", f"text number {i}") for i in range(2000)]


def write(store: CorpusStore, name: str, documents: list[Document]) -> Collection:
    writer = store.begin(name)
    texts = [f"{title} {text}" for _, title, text in documents]
    writer.add(documents, WordEncoder().encode(texts, kind="document", show_progress=False, description=""))
    return store.publish(name, writer)


@pytest.fixture
def store(tmp_path: Path) -> CorpusStore:
    store = CorpusStore(tmp_path / "corpora", WordEncoder())
    store.load()
    return store


def reopened(store: CorpusStore, encoder: WordEncoder | None = None) -> CorpusStore:
    """What a service that starts over the same folder finds."""
    folder = store._folder
    store.close()
    again = CorpusStore(folder, encoder or WordEncoder())
    again.load()
    return again


def test_documents_are_read_as_they_were_written(store: CorpusStore) -> None:
    writer = store.begin("a")
    for part in (DOCUMENTS[:1200], DOCUMENTS[1200:]):
        writer.add(part, np.zeros((len(part), 16), dtype=np.float32))
    documents = Documents(writer.finish() / "documents.sqlite")
    assert documents.facts.documents == 2000
    assert documents.get([3, 1999, 3, 5000]) == {3: DOCUMENTS[3], 1999: DOCUMENTS[1999]}
    assert documents.get(range(2000)) == dict(enumerate(DOCUMENTS))
    corpus = documents.corpus()
    assert corpus.full_texts([1999, 3, 3]) == [corpus.full_text(i) for i in (1999, 3, 3)]
    assert list(corpus.full_texts()) == list(Corpus(*zip(*DOCUMENTS, strict=True)).full_texts())
    plain = Corpus(*map(list, zip(*DOCUMENTS, strict=True)))
    assert len(corpus) == 2000
    assert corpus.fingerprint == plain.fingerprint
    assert (corpus.full_text(7), corpus.ids[-1], corpus.texts[2:4]) == (plain.full_text(7), "d1999", plain.texts[2:4])
    with pytest.raises(IndexError):
        corpus.ids[2000]


def test_a_corpus_is_the_same_after_a_restart(store: CorpusStore) -> None:
    before = write(store, "a", DOCUMENTS[:50])
    vectors, documents = np.array(before.index.dense.vectors), before.documents.get(range(50))
    after = reopened(store).collections["a"]
    np.testing.assert_array_equal(after.index.dense.vectors, vectors)
    assert after.documents.get(range(50)) == documents
    assert isinstance(after.index.dense.vectors.base, np.memmap), "mapped, not loaded"


def test_replacing_leaves_one_version_and_whoever_reads_the_old_one_in_peace(store: CorpusStore) -> None:
    old = write(store, "a", DOCUMENTS[:50])
    write(store, "a", DOCUMENTS[50:60])
    assert len(store.collections["a"].corpus) == 10
    assert old.documents.get([7]) == {7: DOCUMENTS[7]}
    assert float(old.index.dense.vectors[49].sum()) == pytest.approx(float(old.index.dense.vectors[49].sum()))
    assert [path.name for path in sorted(store._folder.iterdir())] == [".lock", "a@00000002"]


def test_unfinished_and_superseded_folders_are_cleared_and_nothing_else(store: CorpusStore) -> None:
    write(store, "a", DOCUMENTS[:5])
    writer = store.begin("b")  # never published
    writer.add(DOCUMENTS[:1], np.zeros((1, 16), dtype=np.float32))
    (store._folder / "a@00000001").rename(store._folder / "keep")
    write(store, "a", DOCUMENTS[:6])
    (store._folder / "keep").rename(store._folder / "a@00000000")
    (store._folder / "notes.txt").write_text("mine")
    writer.discard()
    (store._folder / ".b@00000001.tmp").mkdir()
    again = reopened(store)
    assert [path.name for path in sorted(again._folder.iterdir())] == [".lock", "a@00000001", "notes.txt"]
    assert len(again.collections["a"].corpus) == 6


@pytest.mark.parametrize("file", ["documents.sqlite", "vectors.f32"])
@pytest.mark.parametrize("how", ["cut", "changed", "missing"])
def test_damage_is_noticed_and_leaves_the_others_usable(
    store: CorpusStore, file: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(store, "a", DOCUMENTS[:500])
    write(store, "b", DOCUMENTS[:5])
    path = store._folder / "a@00000001" / file
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        path.write_bytes(
            content[:middle] if how == "cut" else content[:middle] + bytes(4096) + content[middle + 4096 :]
        )
    again = reopened(store)
    assert set(again.collections) == {"b"}
    assert set(again.unusable) == {"a"}
    assert "corpus a cannot be searched" in caplog.text
    write(again, "a", DOCUMENTS[:3])
    assert set(again.collections) == {"a", "b"}
    assert not again.unusable


def test_an_older_version_stays_until_the_newer_one_was_opened(store: CorpusStore) -> None:
    write(store, "a", DOCUMENTS[:5])
    older = store._folder / "a@00000001"
    shutil.copytree(older, store._folder / "kept")
    write(store, "a", DOCUMENTS[:6])
    (store._folder / "kept").rename(older)
    (store._folder / "a@00000002" / "documents.sqlite").write_bytes(b"not any more")
    again = reopened(store)
    assert len(again.collections["a"].corpus) == 5
    assert set(again.unusable) == {"a@00000002"}
    write(again, "a", DOCUMENTS[:7])
    assert not again.unusable
    assert [path.name for path in sorted(again._folder.iterdir())] == [".lock", "a@00000003"]


@pytest.mark.parametrize("byte", [0xFF, ord("X")])
def test_one_byte_of_a_text_is_that_corpuss_own_damage(store: CorpusStore, tmp_path: Path, byte: int) -> None:
    write(store, "broken", DOCUMENTS[:50])
    write(store, "healthy", DOCUMENTS[:5])
    path = store._folder / "broken@00000001" / "documents.sqlite"
    content = bytearray(path.read_bytes())
    content[content.rindex(b"text number 7")] = byte
    path.write_bytes(bytes(content))
    folder = store._folder
    store.close()
    with client(folder) as asking:
        listed = asking.get("/corpora").json()
        assert [corpus["name"] for corpus in listed["corpora"]] == ["healthy"]
        assert "broken" in listed["unusable"]
        assert asking.post("/search", json={"corpus": "healthy", "queries": ["text"]}).status_code == 200
        assert asking.post("/search", json={"corpus": "broken", "queries": ["text"]}).status_code == 409
        assert asking.delete("/corpora/broken").status_code == 204
        assert asking.get("/corpora").json()["unusable"] == {}


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM facts",
        "UPDATE facts SET value = 'many' WHERE name = 'documents'",
        "UPDATE facts SET value = -1 WHERE name = 'dim'",
        "UPDATE documents SET text = x'00ff' WHERE position = 3",
        "UPDATE documents SET title = NULL WHERE position = 3",
        "DELETE FROM documents WHERE position = 3",
        "DROP TABLE documents",
    ],
)
def test_a_file_that_says_something_else_is_refused(store: CorpusStore, change: str) -> None:
    write(store, "a", DOCUMENTS[:9])
    with closing(sqlite3.connect(store._folder / "a@00000001" / "documents.sqlite")) as connection, connection:
        connection.execute(change)
    again = reopened(store)
    assert set(again.unusable) == {"a"}
    assert again.delete("a")


def test_vectors_of_another_encoder_are_not_searched(store: CorpusStore) -> None:
    write(store, "a", DOCUMENTS[:5])
    other = WordEncoder()
    other.fingerprint = "other words"
    again = reopened(store, other)
    assert "indexed with encoder words" in again.unusable["a"]
    assert again.delete("a")
    assert not again.delete("a")


def test_a_folder_belongs_to_one_service(store: CorpusStore) -> None:
    with pytest.raises(ConfigError, match="in use by another service"):
        CorpusStore(store._folder, WordEncoder())


def test_a_foreign_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no database at all" * 100)
    with pytest.raises(CacheError, match="damaged"):
        Documents(tmp_path / "x")


def test_an_upload_that_stalls_is_given_up() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"one\n"
        await asyncio.sleep(10)

    async def main() -> list[bytes]:
        return [line async for _, line in lines_of(in_time(slow(), LimitConfig(upload_timeout=0.05)), 1000)]

    with pytest.raises(Refused, match="nothing came"):
        asyncio.run(main())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_do_not_depend_on_how_an_upload_is_cut(size: int) -> None:
    content = b"first\n\n  \r\nsecond line\r\nthird"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), size):
            yield content[start : start + size]

    async def main() -> list[tuple[int, bytes]]:
        return [(number, line.strip()) async for number, line in lines_of(pieces(), 1000)]

    assert asyncio.run(main()) == [(1, b"first"), (4, b"second line"), (5, b"third")]


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is a signal of POSIX systems")
def test_kill_nine_under_load_leaves_every_corpus_whole(tmp_path: Path) -> None:
    """Uploads that replace each other and searches go on when the process is killed; twice."""
    sizes = [40, 333]  # a version has the one number of documents or the other, and its texts say which
    contents = [jsonl(*(f"version {size} document {i}" for i in range(size))) for size in sizes]
    confirmed = 0

    async def uploads(port: int) -> None:
        nonlocal confirmed
        async with connection(port) as ask:
            for turn in range(10_000):
                name = "steady" if turn % 5 == 4 else "restless"
                confirmed += (await ask("PUT", f"/corpora/{name}", contents[turn % 2].encode()))[0] in (200, 201)

    async def searches(port: int) -> None:
        body = json.dumps({"corpus": "restless", "queries": ["version 40 document 3"]}).encode()
        async with connection(port) as ask:
            while True:
                assert (await ask("POST", "/search", body))[0] in (200, 404, 429, 503)

    async def killed(after: int) -> None:
        running = Running(tmp_path)
        tasks = [asyncio.create_task(work(running.port)) for work in (uploads, searches, searches)]
        enough = confirmed + after
        while confirmed < enough and not any(task.done() for task in tasks):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.004 * after)  # somewhere within the next upload
        running.stop(signal.SIGKILL)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(r, (ConnectionError, asyncio.IncompleteReadError)) for r in results), results

    for after in (6, 3):
        asyncio.run(killed(after))
        with client(tmp_path) as asking:
            listed = asking.get("/corpora").json()
            assert listed["unusable"] == {}
            assert "restless" in {corpus["name"] for corpus in listed["corpora"]}
            for corpus in listed["corpora"]:
                size = corpus["documents"]
                assert size in sizes
                last = f"version {size} document {size - 1}"
                found = asking.post("/search", json={"corpus": corpus["name"], "queries": [last], "k": 1})
                assert ids(found) == [f"d{size - 1}"]
                assert found.json()["results"][0]["keys"][0]["key"] == last
