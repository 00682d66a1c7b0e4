"""Everything that requests share: models, the models' thread, corpora, the agent, counters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from searchrl.config import RetrieverName
from searchrl.models.language_model import FloatArray, LanguageModel
from searchrl.retrieval.dense import TextEncoder
from searchrl.reward.reward_model import RewardModel
from searchrl.service.batching import Batcher, QueueFull, Work
from searchrl.service.config import LimitConfig, ServerConfig
from searchrl.service.corpora import Collection, CorpusStore
from searchrl.service.metrics import Metrics
from searchrl.service.upload import receive
from searchrl.service.work import Answer, Asked, Embed, Generate, Score, SinglePass

if TYPE_CHECKING:
    from searchrl.service.agent import Agent

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Refused(Exception):
    """A request that is not served, with its HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Service:
    """The service without HTTP.

    encoder, reward, lm: one embedding, one search and one generation model. agent: the trained one, if there is any.
    close_models: called at the end, when nothing works with them any more; the agent is closed, too.
    Raises what ``CorpusStore`` raises. ``start`` it within an event loop, ``close`` it at the end.
    """

    def __init__(
        self,
        config: ServerConfig,
        encoder: TextEncoder,
        reward: RewardModel,
        lm: LanguageModel,
        agent: Agent | None = None,
        close_models: Callable[[], object] | None = None,
    ) -> None:
        self.encoder, self.reward, self.lm, self.agent = encoder, reward, lm, agent
        self.limits: LimitConfig = config.limits
        self.metrics = Metrics()
        self.store = CorpusStore(config.corpora, encoder)
        self.batcher = Batcher(config.limits.max_batch, config.limits.max_queue, self.metrics.batch)
        self.ready = False
        """Whether corpora can be searched."""
        self._changing = asyncio.Lock()
        self._loading: asyncio.Task[None] | None = None
        self._close_models = close_models

    def start(self) -> None:
        """Begin to work; the corpora are opened meanwhile."""
        self.batcher.start()
        self._loading = asyncio.create_task(self._load())

    async def close(self) -> None:
        """Finish what was taken, then let go of everything."""
        if self._loading:
            await self._loading
        await asyncio.to_thread(self.batcher.close)
        self.store.close()
        if self.agent:
            self.agent.close()
        if self._close_models:
            self._close_models()

    async def search(
        self, corpus: str, queries: Sequence[str], k: int, agent: bool, retriever: RetrieverName | None
    ) -> list[Answer]:
        """Search an indexed corpus, one answer a query. Raises Refused."""
        collection, asked = self.collection(corpus), [Asked(query, k) for query in queries]
        if not agent:
            kind = retriever or (self.agent.retriever if self.agent else "dense")
            return await self.work(SinglePass(collection, kind), asked)
        if self.agent is None:
            raise Refused(409, "there is no agent here; start the service with --checkpoint")
        from searchrl.service.agent import PlayAgent  # which needs torch, and most of the rest does not

        return await self.work(PlayAgent(self.agent, collection), asked)

    async def relevance(self, queries: Sequence[str], keys: Sequence[str]) -> FloatArray:
        """(queries, keys) scores. Raises Refused."""
        # Key by key: a language model reads each key once for all queries.
        scores = await self.work(Score(self.reward), [(query, key) for key in keys for query in queries])
        matrix: FloatArray = np.array(scores, dtype=np.float32).reshape(len(keys), len(queries)).T
        return matrix

    async def pair_relevance(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Scores of (query, key) pairs. Raises Refused."""
        return await self.work(Score(self.reward), pairs)

    async def embed(self, texts: Sequence[str], kind: Any) -> list[FloatArray]:
        """Unit vectors. Raises Refused."""
        return await self.work(Embed(self.encoder, kind), texts)

    async def generate(self, prompts: Sequence[str], max_new_tokens: int, temperature: float, seed: int) -> list[str]:
        """New texts. Raises Refused."""
        return await self.work(Generate(self.lm, max_new_tokens, temperature, seed), prompts)

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
            embed = Embed(self.encoder, "document")
            return await receive(name, content, self.store, embed, self.batcher, self.limits), new

    async def delete(self, name: str) -> None:
        """Forget a corpus. Raises Refused."""
        async with self._change():
            if not await asyncio.to_thread(self.store.delete, name):
                raise Refused(404, f"no corpus {name!r} here")

    async def work(self, work: Work[Item, Result], items: Sequence[Item]) -> list[Result]:
        """Have the models' thread do something, within the limits. Raises Refused."""
        if len(items) > self.limits.max_items:
            most = self.limits.max_items
            raise Refused(422, f"{len(items)} items (queries times keys, where keys are scored), at most {most}")
        try:
            return await self.batcher.submit(work, items)
        except QueueFull:
            raise Refused(429, "too much is waiting; try again") from None

    def _change(self) -> asyncio.Lock:
        """One upload at a time: each gets the whole machine, and no two can be about the same name."""
        self.check_ready()
        if self._changing.locked():
            raise Refused(429, "another corpus is being indexed; try again")
        return self._changing

    def check_ready(self) -> None:
        """Raise Refused while the corpora are not open."""
        if not self.ready:
            raise Refused(503, "the corpora are being loaded; ask /readyz")

    async def _load(self) -> None:
        try:
            await asyncio.to_thread(self.store.load)
            self.ready = True
        except Exception:  # nobody waits for this task
            logger.exception("the corpora cannot be opened")
