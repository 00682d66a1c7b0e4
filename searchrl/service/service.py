"""Everything that requests share: the models (``search.Services``), corpora, the agent, limits and counters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from searchrl.config import RetrieverName
from searchrl.errors import reason
from searchrl.models.language_model import FloatArray
from searchrl.reward.reward_model import RewardModel
from searchrl.search.corpus import Advance, Agent, Answer, Asked, Play, PlayAgent, SinglePass
from searchrl.search.judgments import Pair, RememberedReward, judge
from searchrl.search.services import Services
from searchrl.search.worker import Closed, Lane, QueueFull, Worker
from searchrl.service import ServerConfig
from searchrl.service.corpora import Collection, CorpusStore
from searchrl.service.middleware import Metrics
from searchrl.service.upload import Refused, index, keep

logger = logging.getLogger(__name__)

T = TypeVar("T")

TURN_SECONDS = 0.25
"""What one turn of one lane may take, about: others wait so long."""


Limit = Literal["budget_ms", "max_judged"]


@dataclass(frozen=True)
class Budget:
    """What one request may cost. deadline: by ``time.monotonic``. max_judged: documents of each query."""

    deadline: float | None = None
    max_judged: int | None = None

    def left(self, judged: int) -> int | None:
        """How many more documents may be judged; None for any number."""
        return None if self.max_judged is None else max(0, self.max_judged - judged)


class Playing:
    """Episodes at play, and how much they are likely still to ask of the reward model."""

    def __init__(self) -> None:
        self._judged: dict[object, int] = {}
        self._usual = 20.0
        """Documents that an episode wants judged, lately on average."""

    @contextmanager
    def one(self) -> Iterator[Callable[[int], None]]:
        """An episode; the function takes note of how many of its documents were judged."""
        key = object()
        self._judged[key] = 0

        def progress(judged: int) -> None:
            self._judged[key] = judged

        try:
            yield progress
        finally:
            self._usual = 0.95 * self._usual + 0.05 * self._judged.pop(key)

    def seconds(self, worker: Worker) -> float:
        """Of the judgments that are still to come."""
        to_come = sum(max(0.0, self._usual - judged) for judged in self._judged.values())
        return to_come * worker.seconds_an_item("Score")


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results; at the first error the others are given up."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _sorted(pairs: NDArray[np.int64], scores: Sequence[float | None]) -> tuple[NDArray[np.int64], FloatArray]:
    order = np.argsort(pairs)
    return pairs[order], np.asarray(scores, dtype=np.float32)[order]


class Service:
    """The service without HTTP.

    models: one embedding, one search and one generation model; their worker is replaced by one with the service's
    limits and counters. agent: the trained one, if there is any. Both are closed with the service. threads: see
    ``Worker``. Raises what ``CorpusStore`` raises. ``start`` it within an event loop, ``close`` it at the end.
    """

    def __init__(
        self, config: ServerConfig, models: Services, agent: Agent | None = None, threads: Literal[1, 2] = 2
    ) -> None:
        self.models, self.agent, self.limits, self.config = models, agent, config.limits, config
        self.metrics = Metrics()
        self.store = CorpusStore(config.corpora, models.encoder, config.read_only, config.models.indexing)
        limits = config.limits
        self.worker = models.worker = Worker(
            limits.max_batch, limits.max_queue, self.metrics.batch, turn_seconds=TURN_SECONDS, threads=threads
        )
        self.judgments: dict[str, RememberedReward] = {}
        """By fingerprint."""
        self._remembers: dict[int, RememberedReward] = {}  # by the reward model's id
        self.playing = Playing()
        self.ready = False
        """Whether corpora can be searched."""
        self._failed = ""
        self._uploads = 0
        self._changing = asyncio.Lock()
        """One corpus is indexed at a time: each gets the whole machine, and no two can be about the same name."""
        self._loading: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Open the corpora; other questions are answered meanwhile. The task ends when they are open."""
        self._loading = asyncio.create_task(self._load())
        return self._loading

    async def close(self) -> None:
        """Finish what was taken, then let go of everything."""
        if self._loading:
            await self._loading
        await asyncio.to_thread(self.models.close)
        self.store.close()
        if self.agent:
            self.agent.close()

    async def search(self, corpus: str, asked: Sequence[Asked], retriever: RetrieverName | None) -> list[Answer]:
        """Plain searches of an indexed corpus, one answer a query. Raises Refused."""
        with self.within_limits(len(asked), "search"):
            return await self.worker.submit(SinglePass(self.collection(corpus), retriever or self._retriever), asked)

    async def rollout(self, queries: Sequence[str], k: int) -> list[Answer]:
        """Plain searches of the default corpus, one answer a query, an empty one for an empty query.

        However many wait, these wait, too, and in a lane of their own: trainers do not come back after a 429. Raises
        Refused.
        """
        most = self.limits.max_rollout
        if len(queries) > most:
            raise Refused(422, f"{len(queries)} queries, at most {most}; see the service's max_rollout")
        work = SinglePass(self.collection(self.default()), self._retriever, "rollout")
        asked = [Asked(query, k) for query in dict.fromkeys(queries) if query.strip()]
        found: dict[str, Answer] = {}
        try:
            for start in range(0, len(asked), self.limits.max_batch):  # others join between two of these
                part = asked[start : start + self.limits.max_batch]
                answers = await self.worker.submit(work, part, always=True)
                found.update((one.query, answer) for one, answer in zip(part, answers, strict=True))
        except Closed:
            raise Refused(503, "the service is being stopped") from None
        return [found.get(query, Answer([])) for query in queries]

    async def play(
        self, corpus: str, asked: Sequence[Asked], budget: Budget, told: Callable[[int], Awaitable[None]] | None = None
    ) -> list[Answer]:
        """The agent's searches of an indexed corpus, one answer a query. Raises Refused.

        told: hears how many documents an episode has had judged, each time that some were.
        """
        collection, agent = self.collection(corpus), self.agent
        if agent is None:
            raise Refused(409, "there is no agent here; start the service with a checkpoint")
        if agent.reward is None and agent.lane == "play":  # it judges nothing: many queries play together
            with self.within_limits(len(asked), "play"):
                return await self.worker.submit(PlayAgent(agent, collection), asked)
        reward = await self._remembering(agent.reward) if agent.reward else None
        with self.within_limits(len(asked), "agent", self.playing.seconds(self.worker)), ExitStack() as stack:
            # Counted before anything is waited for: who comes at the same moment must know of it.
            progress = [stack.enter_context(self.playing.one()) for _ in asked]
            plays = [Play(agent, collection, one) for one in asked]
            return await together(
                [self._episode(*play, agent.lane, reward, budget, told) for play in zip(plays, progress, strict=True)]
            )

    async def _episode(
        self,
        play: Play,
        progress: Callable[[int], None],
        lane: Lane,
        reward: RememberedReward | None,
        budget: Budget,
        told: Callable[[int], Awaitable[None]] | None,
    ) -> Answer:
        """Drive one episode: its own steps in its lane, what it wants judged in that of agents' judgments."""
        stopped: Limit | None = None
        judged = 0
        while True:
            (came,) = await self.worker.submit(Advance(lane), [play], always=True)
            if isinstance(came, Exception):
                raise came
            if isinstance(came, Answer):
                return replace(came, stopped=stopped)
            assert reward
            pairs = came.pairs[: budget.left(judged)]
            scores = await self._judge(reward, came.pool.texts_of(pairs), "agent", budget)
            known = [i for i, score in enumerate(scores) if score is not None]
            came.pool.learn(*_sorted(pairs[known], [scores[i] for i in known]))
            judged += len(known)
            progress(judged)
            if told:
                await told(judged)
            stopped = "max_judged" if len(pairs) < len(came.pairs) else None
            stopped = "budget_ms" if len(known) < len(pairs) else stopped
            play.stop = stopped is not None

    async def relevance(self, queries: Sequence[str], keys: Sequence[str], budget: Budget) -> list[list[float | None]]:
        """Scores, a row a query, a column a key; None where the budget did not reach. Raises Refused."""
        self._check_count(len(queries) * len(keys))  # before there is a list of them
        seen = keys[: budget.left(0)]
        # Key by key: a language model reads each key once for all queries.
        scores = await self.pair_relevance([(query, key) for key in seen for query in queries], budget)
        rest = [None] * (len(keys) - len(seen))
        return [[*scores[i :: len(queries)], *rest] for i in range(len(queries))]

    async def probabilities(self, query: str, texts: Sequence[str]) -> tuple[list[float], list[float]]:
        """Scores of texts, and the same in [0, 1]: as they are where the reward model is calibrated or grades, else
        through the logistic function, which keeps the order. Raises Refused.
        """
        reward: RewardModel = await self.models.loaded("reward")
        scores = np.array(await self.pair_relevance([(query, text) for text in texts], Budget()), dtype=np.float64)
        shares = scores if reward.absolute else 1 / (1 + np.exp(-np.clip(scores, -700, 700)))
        return scores.tolist(), np.clip(shares, 0.0, 1.0).tolist()

    async def pair_relevance(self, pairs: Sequence[Pair], budget: Budget) -> list[float | None]:
        """Scores of (query, key) pairs; None where the budget did not reach. Raises Refused."""
        reward = await self._remembering(await self.models.loaded("reward"))
        with self.within_limits(len(pairs), "judge"):
            return await self._judge(reward, pairs, "judge", budget)

    async def _judge(
        self, reward: RememberedReward, pairs: Sequence[Pair], lane: Lane, budget: Budget
    ) -> list[float | None]:
        return await judge(reward, pairs, self.worker, lane, budget.deadline, always=lane == "agent")

    async def _remembering(self, reward: RewardModel) -> RememberedReward:
        """One memory a reward model, also where the agent and the service have an object of it each."""
        if id(reward) not in self._remembers:
            fingerprint = await self.worker.run(lambda: reward.fingerprint)  # may read files, or ask a server
            self._remembers[id(reward)] = self.judgments.setdefault(fingerprint, RememberedReward(reward))
        return self._remembers[id(reward)]

    @property
    def _retriever(self) -> RetrieverName:
        """What a plain search uses where nobody says."""
        return self.agent.retriever if self.agent else "dense"

    @property
    def encoder_name(self) -> str:
        """The encoder as it was named at the start."""
        return self.config.models.encoder

    @property
    def reward_name(self) -> str:
        """The reward model as it was named at the start; ``reward`` where it is the device's."""
        models = self.config.models
        return models.reward_model or (models.lm if models.lm != "auto" else "reward")

    def default(self) -> str:
        """The corpus that is searched where a request names none. Raises Refused where there is no such corpus."""
        self.check_ready()
        there = list(self.store.collections)
        if self.config.corpus is None and len(there) != 1:
            advice = "start the service with one's name as `corpus`" if there else "index one with PUT /corpora/NAME"
            raise Refused(409, f"which corpus is meant? There are {len(there)} here; {advice}")
        return self.config.corpus or there[0]

    def collection(self, name: str) -> Collection:
        """An indexed corpus. Raises Refused."""
        self.check_ready()
        if name in self.store.collections:
            return self.store.collections[name]
        if name in self.store.unusable:
            raise Refused(409, self.store.unusable[name])
        raise Refused(404, f"no corpus {name!r} here; index one with PUT /corpora/{name}")

    async def put(self, name: str, content: AsyncIterator[bytes]) -> tuple[Collection, bool]:
        """Index a corpus; also whether the name is new. Raises Refused, and what ``keep`` and ``index`` raise."""
        self._check_writable()
        if self._uploads == self.limits.max_uploads:
            raise Refused(429, f"{self._uploads} uploads are under way; try again")
        self._uploads += 1
        try:
            with self.store.aside() as file:
                await keep(content, file, self.limits)
                async with self._changing:
                    new = name not in self.store.collections
                    return await index(name, file, self.store, self.worker), new
        finally:
            self._uploads -= 1

    async def delete(self, name: str) -> None:
        """Forget a corpus. Raises Refused."""
        self._check_writable()
        if self._changing.locked():
            raise Refused(429, "a corpus is being indexed; try again")
        async with self._changing:
            if not await asyncio.to_thread(self.store.delete, name):
                raise Refused(404, f"no corpus {name!r} here")

    def gauge(self) -> None:
        """Bring the gauges up to date."""
        metrics, worker = self.metrics, self.worker
        metrics.waiting.set(worker.waiting)
        metrics.corpora.set(len(self.store.collections))
        for lane in get_args(Lane):
            more = self.playing.seconds(worker) if lane == "agent" else 0.0
            metrics.wait.labels(lane).set(worker.wait(lane) + more)
        metrics.judgments.labels("memory").set(sum(reward.hits for reward in self.judgments.values()))
        metrics.judgments.labels("model").set(sum(reward.misses for reward in self.judgments.values()))

    def check_ready(self) -> None:
        """Raise Refused while the corpora are not open."""
        if self._failed:
            raise Refused(503, f"the corpora cannot be opened: {self._failed}")
        if not self.ready:
            raise Refused(503, "the corpora are being loaded; ask /readyz")

    def _check_writable(self) -> None:
        """Raise Refused while the corpora are not open, or where others serve them too."""
        self.check_ready()
        if self.config.read_only:
            raise Refused(409, "this service only reads; index with one that is started without read_only")

    def _check_count(self, items: int) -> None:
        most = self.limits.max_items
        if items > most:
            raise Refused(422, f"{items} items (queries times keys, where keys are scored), at most {most}")

    @contextmanager
    def within_limits(self, items: int, lane: Lane, more: float = 0.0) -> Iterator[None]:
        """Refuse what is more than one request may ask for, or would wait too long. more: seconds of waiting work that
        the lane does not know of.
        """
        self._check_count(items)
        wait = self.worker.wait(lane) + more
        if wait > self.limits.max_wait:
            detail = f"new work would wait about {wait:.0f} seconds; try again later"
            raise Refused(429, detail, retry_after=wait - self.limits.max_wait)
        try:
            yield
        except (QueueFull, Closed):
            raise Refused(429, "too much is waiting; try again", retry_after=wait) from None

    async def _load(self) -> None:
        try:
            await asyncio.to_thread(self.store.load)
            self.ready = True
        except Exception as error:  # nobody waits for this task
            self._failed = reason(error)
            logger.exception("the corpora cannot be opened")
