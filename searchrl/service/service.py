"""Everything that requests share: the models (``search.Services``), corpora, the agent, limits and counters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np

from searchrl.config import RetrieverName
from searchrl.models.language_model import FloatArray
from searchrl.search.first_stage import Answer, Asked, SinglePass
from searchrl.search.services import Services
from searchrl.search.worker import Closed, QueueFull, Work, Worker
from searchrl.service.config import ServerConfig
from searchrl.service.corpora import Collection, CorpusStore
from searchrl.service.middleware import Metrics
from searchrl.service.upload import receive

if TYPE_CHECKING:
    from searchrl.search.agent import Agent

logger = logging.getLogger(__name__)


class Refused(Exception):
    """A request that is not served, with its HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


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
            from searchrl.search.agent import PlayAgent  # which needs torch, and most of the rest does not

            work = PlayAgent(self.agent, collection)
        with self._within_limits(len(asked)):
            return await self.worker.submit(work, asked)

    async def relevance(self, queries: Sequence[str], keys: Sequence[str]) -> FloatArray:
        """(queries, keys) scores. Raises Refused."""
        # Key by key: a language model reads each key once for all queries.
        scores = await self.pair_relevance([(query, key) for key in keys for query in queries])
        matrix: FloatArray = np.array(scores, dtype=np.float32).reshape(len(keys), len(queries)).T
        return matrix

    async def pair_relevance(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Scores of (query, key) pairs. Raises Refused."""
        with self._within_limits(len(pairs)):
            return await self.models.score(pairs)

    async def embed(self, texts: Sequence[str], kind: Literal["query", "document"]) -> FloatArray:
        """Unit vectors. Raises Refused."""
        with self._within_limits(len(texts)):
            return await self.models.embed(texts, kind)

    async def generate(self, prompts: Sequence[str], max_new_tokens: int, temperature: float, seed: int) -> list[str]:
        """New texts. Raises Refused."""
        with self._within_limits(len(prompts)):
            return await self.models.generate(
                prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
            )

    def collection(self, name: str) -> Collection:
        """An indexed corpus. Raises Refused."""
        self.check_ready()
        if name in self.store.collections:
            return self.store.collections[name]
        if name in self.store.unusable:
            raise Refused(409, self.store.unusable[name])
        raise Refused(404, f"no corpus {name!r} here; index one with PUT /corpora/{name}")

    async def put(self, name: str, content: AsyncIterator[bytes]) -> tuple[Collection, bool]:
        """Index a corpus; also whether the name is new. Raises Refused, and what ``upload.receive`` raises."""
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
    def _within_limits(self, items: int) -> Iterator[None]:
        """Refuse what is more than one request may ask for, or than may wait."""
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
