"""Everything that requests share: the models (``search.Services``), corpora, the agent, limits and counters.

A corpus comes in as JSON Lines, a piece at a time, checked, encoded and written while the rest is on its way.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from searchrl.config import RetrieverName
from searchrl.data.records import checked_id, checked_text
from searchrl.errors import DataError
from searchrl.models.language_model import FloatArray
from searchrl.search.corpus import Agent, Answer, Asked, Document, PlayAgent, SinglePass
from searchrl.search.services import Services
from searchrl.search.worker import Closed, Embed, QueueFull, Work, Worker
from searchrl.service import LimitConfig, ServerConfig
from searchrl.service.corpora import Collection, CorpusStore
from searchrl.service.middleware import Metrics

logger = logging.getLogger(__name__)

MAX_LINE = 1_000_000
"""Bytes of one document."""
BLOCK = 32
"""Documents encoded together: short turns, so that searches come in between."""


class Refused(Exception):
    """A request that is not served, with its HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


async def receive(
    name: str, content: AsyncIterator[bytes], store: CorpusStore, worker: Worker, limits: LimitConfig
) -> Collection:
    """Read, index and publish a corpus. Nothing is left, and the corpus of that name stays, where this fails.

    Raises DataError naming the line at fault, Refused, and OutputError where the disk cannot be written.
    """
    embed = Embed(store.encoder, "document")
    writer = await asyncio.to_thread(store.begin, name)
    try:
        async for block in _blocks(_lines(_in_time(content, limits.upload_timeout), limits.max_corpus)):
            if writer.count + len(block) > limits.max_documents:
                raise Refused(413, f"more than {limits.max_documents} documents; see the service's max_documents")
            texts = [f"{title} {text}".strip() for _, title, text in block]
            vectors = await worker.submit(embed, texts, always=True)
            await asyncio.to_thread(writer.add, block, np.stack(vectors))
        if not writer.count:
            raise DataError("empty; one JSON object a line is expected, with '_id' and 'text'")
        return await asyncio.to_thread(store.publish, name, writer)
    finally:
        await asyncio.to_thread(writer.discard)


async def _in_time(content: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    pieces = content.__aiter__()
    while True:
        try:
            yield await asyncio.wait_for(pieces.__anext__(), seconds)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Refused(408, f"nothing came for {seconds:g} seconds") from error


async def _lines(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[tuple[int, bytes]]:
    """(number from 1, line) of every line that is not blank."""
    rest, size, number = b"", 0, 0
    async for piece in pieces:
        size += len(piece)
        if size > most:
            raise Refused(413, f"more than {most} bytes; see the service's max_corpus")
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                yield number, _short(line, number)
        _short(rest, number + 1)
    if rest.strip():
        yield number + 1, rest


def _short(line: bytes, number: int) -> bytes:
    if len(line) > MAX_LINE:
        raise Refused(413, f"line {number}: more than {MAX_LINE} bytes")
    return line


async def _blocks(lines: AsyncIterator[tuple[int, bytes]]) -> AsyncIterator[list[Document]]:
    first: dict[str, int] = {}
    block = []
    async for number, line in lines:
        block.append(document(line, f"line {number}"))
        name = block[-1][0]
        if (before := first.setdefault(name, number)) != number:
            raise DataError(f"line {number}: the id {name!r} was used before, in line {before}")
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


def document(line: bytes, place: str) -> Document:
    """One line of a BEIR ``corpus.jsonl``. Raises DataError naming ``place``."""
    try:
        value = json.loads(line.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON in UTF-8 ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise DataError(f"{place}: a JSON object is expected here, not {type(value).__name__}")
    for name in ("_id", "text"):
        if name not in value:
            raise DataError(f"{place}: the field {name!r} is missing")
    title = value.get("title")
    return (
        checked_id(value["_id"], "'_id'", place),
        "" if title is None else checked_text(title, "'title'", place),
        checked_text(value["text"], "'text'", place),
    )


class Service:
    """The service without HTTP.

    models: one embedding, one search and one generation model; their worker is replaced by one with the service's
    limits and counters. agent: the trained one, if there is any. Both are closed with the service. Raises what
    ``CorpusStore`` raises. ``start`` it within an event loop, ``close`` it at the end.
    """

    def __init__(self, config: ServerConfig, models: Services, agent: Agent | None = None) -> None:
        self.models, self.agent, self.limits = models, agent, config.limits
        self.metrics = Metrics()
        self.store = CorpusStore(config.corpora, models.encoder)
        self.worker = models.worker = Worker(config.limits.max_batch, config.limits.max_queue, self.metrics.batch)
        self.ready = False
        """Whether corpora can be searched."""
        self._changing = asyncio.Lock()
        self._loading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Open the corpora; other questions are answered meanwhile."""
        self._loading = asyncio.create_task(self._load())

    async def close(self) -> None:
        """Finish what was taken, then let go of everything."""
        if self._loading:
            await self._loading
        await asyncio.to_thread(self.models.close)
        self.store.close()
        if self.agent:
            self.agent.close()

    async def search(
        self, corpus: str, queries: Sequence[str], k: int, agent: bool, retriever: RetrieverName | None
    ) -> list[Answer]:
        """Search an indexed corpus, one answer a query. Raises Refused."""
        collection, asked = self.collection(corpus), [Asked(query, k) for query in queries]
        work: Work[Asked, Answer]
        if not agent:
            kind = retriever or (self.agent.retriever if self.agent else "dense")
            work = SinglePass(collection, kind)
        elif self.agent is None:
            raise Refused(409, "there is no agent here; start the service with a checkpoint")
        else:
            work = PlayAgent(self.agent, collection)
        with self.within_limits(len(asked)):
            return await self.worker.submit(work, asked)

    async def relevance(self, queries: Sequence[str], keys: Sequence[str]) -> FloatArray:
        """(queries, keys) scores. Raises Refused."""
        # Key by key: a language model reads each key once for all queries.
        scores = await self.pair_relevance([(query, key) for key in keys for query in queries])
        matrix: FloatArray = np.array(scores, dtype=np.float32).reshape(len(keys), len(queries)).T
        return matrix

    async def pair_relevance(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Scores of (query, key) pairs. Raises Refused."""
        with self.within_limits(len(pairs)):
            return await self.models.score(pairs)

    def collection(self, name: str) -> Collection:
        """An indexed corpus. Raises Refused."""
        self.check_ready()
        if name in self.store.collections:
            return self.store.collections[name]
        if name in self.store.unusable:
            raise Refused(409, self.store.unusable[name])
        raise Refused(404, f"no corpus {name!r} here; index one with PUT /corpora/{name}")

    async def put(self, name: str, content: AsyncIterator[bytes]) -> tuple[Collection, bool]:
        """Index a corpus; also whether the name is new. Raises Refused, and what ``receive`` raises."""
        async with self._change():
            new = name not in self.store.collections
            return await receive(name, content, self.store, self.worker, self.limits), new

    async def delete(self, name: str) -> None:
        """Forget a corpus. Raises Refused."""
        async with self._change():
            if not await asyncio.to_thread(self.store.delete, name):
                raise Refused(404, f"no corpus {name!r} here")

    def check_ready(self) -> None:
        """Raise Refused while the corpora are not open."""
        if not self.ready:
            raise Refused(503, "the corpora are being loaded; ask /readyz")

    @contextmanager
    def within_limits(self, items: int) -> Iterator[None]:
        """Around work on so many items: raises Refused where a request may not ask for so many, or no more may wait."""
        if items > self.limits.max_items:
            most = self.limits.max_items
            raise Refused(422, f"{items} items (queries times keys, where keys are scored), at most {most}")
        try:
            yield
        except (QueueFull, Closed):
            raise Refused(429, "too much is waiting; try again") from None

    def _change(self) -> asyncio.Lock:
        """One upload at a time: each gets the whole machine, and no two can be about the same name."""
        self.check_ready()
        if self._changing.locked():
            raise Refused(429, "another corpus is being indexed; try again")
        return self._changing

    async def _load(self) -> None:
        try:
            await asyncio.to_thread(self.store.load)
            self.ready = True
        except Exception:  # nobody waits for this task
            logger.exception("the corpora cannot be opened")
