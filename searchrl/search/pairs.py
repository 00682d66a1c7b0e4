"""Scores many pairs of queries and keys, a block of queries at a time, a chunk of pairs at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from searchrl.models.language_model import FloatArray
from searchrl.retrieval.ranking import IntArray
from searchrl.reward.reward_model import CachedReward, RewardModel
from searchrl.search.candidates import CandidateFinder
from searchrl.search.worker import Worker

QUERIES_AT_ONCE = 32
"""Queries that are scored together: a key is then read once for all of them, by scorers that can."""

PAIRS_AT_ONCE = 128
"""Pairs scored between two looks at the event loop, and lost at most when a job is killed."""

Scored = tuple[int, IntArray, FloatArray]
"""A query's position, the keys scored for it, (m,), and their scores, (m,)."""


@dataclass(frozen=True)
class PairScorer:
    """A reward model, the finder of candidates, and the thread that both work in."""

    reward: RewardModel
    finder: CandidateFinder
    worker: Worker
    pairs_at_once: int = PAIRS_AT_ONCE
    show_progress: bool = True

    async def scored(
        self, queries: Sequence[str], keys: Sequence[str], count: int, checkpoint: str | Path | None
    ) -> AsyncGenerator[Scored, None]:
        """Score ``count`` keys of each query, chosen by the finder where that is not all of them; queries in order."""
        from tqdm import tqdm

        run = self.worker.run
        store = await run(lambda: CachedReward(self.reward, Path(checkpoint))) if checkpoint else None
        with ExitStack() as opened:
            if store:  # a chunk that nobody waits for any more is still written
                opened.callback(self.worker.afterwards, store.close)
            bar = opened.enter_context(
                tqdm(total=len(queries) * count, desc="scoring", unit="pair", disable=not self.show_progress)
            )
            for start in range(0, len(queries), QUERIES_AT_ONCE):
                block = queries[start : start + QUERIES_AT_ONCE]
                if count < len(keys):
                    chosen = await run(partial(self.finder.find, block, keys, count, self.show_progress))
                else:
                    chosen = np.tile(np.arange(count, dtype=np.int32), (len(block), 1))
                scores = await self._score(store or self.reward, block, keys, chosen, bar)
                for i in range(len(block)):
                    yield start + i, chosen[i], scores[i]

    async def _score(
        self, reward: RewardModel, queries: Sequence[str], keys: Sequence[str], chosen: IntArray, bar: Any
    ) -> FloatArray:
        """Scores of each query with its own keys; chosen and result (n, m).

        Chunks are of neighbouring keys, so that a key meets all its queries in one; pairs of equal texts are scored
        once in it.
        """
        scores = np.zeros(chosen.size, dtype=np.float32)
        order = np.argsort(chosen, axis=None, kind="stable")
        for start in range(0, len(order), self.pairs_at_once):
            part = order[start : start + self.pairs_at_once]
            pairs = [(queries[i // chosen.shape[1]], keys[chosen.flat[i]]) for i in part]
            distinct = list(dict.fromkeys(pairs))
            texts = [query for query, _ in distinct], [key for _, key in distinct]
            known = dict(zip(distinct, await self.worker.run(partial(reward.score, *texts)), strict=True))
            scores[part] = [known[pair] for pair in pairs]
            bar.update(len(part))
        return scores.reshape(chosen.shape)
