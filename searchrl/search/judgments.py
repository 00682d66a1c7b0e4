"""Judgments that are remembered while a service runs: a pair of texts is scored once, whoever asks."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from searchrl.models.language_model import FloatArray
from searchrl.reward.reward_model import RewardModel, checked_scores
from searchrl.search.worker import Lane, Score, Worker

MOST = 200_000
"""Pairs: about 30 MB."""

Pair = tuple[str, str]


class RememberedReward:
    """A reward model that keeps its newest scores in memory; may be shared by threads."""

    def __init__(self, reward: RewardModel, most: int = MOST) -> None:
        self._reward, self._most = reward, most
        self._scores: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = self.misses = 0
        """Scores that were remembered, and those that were not, of all that was asked for by ``known``."""

    @property
    def fingerprint(self) -> str:
        """The reward model's own."""
        return self._reward.fingerprint

    @property
    def absolute(self) -> bool:
        """The reward model's own."""
        return self._reward.absolute

    def known(self, pairs: Sequence[Pair]) -> list[float | None]:
        """The score of each pair, where it is remembered."""
        keys = [_key(pair) for pair in pairs]
        with self._lock:
            found = [self._scores.get(key) for key in keys]
            for key, score in zip(keys, found, strict=True):
                if score is not None:
                    self._scores.move_to_end(key)
            missed = found.count(None)
            self.misses, self.hits = self.misses + missed, self.hits + len(found) - missed
        return found

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """See ``RewardModel.score``; everything is scored now, and remembered."""
        scores = checked_scores(self._reward, queries, documents)
        with self._lock:
            for pair, score in zip(zip(queries, documents, strict=True), scores.tolist(), strict=True):
                self._scores[_key(pair)] = score
            while len(self._scores) > self._most:
                self._scores.popitem(last=False)
        return np.asarray(scores)


async def judge(
    reward: RememberedReward,
    pairs: Sequence[Pair],
    worker: Worker,
    lane: Lane,
    deadline: float | None = None,
    *,
    always: bool = False,
) -> list[float | None]:
    """The score of each pair; None for those that were not scored by ``deadline`` (``time.monotonic``).

    Raises what ``Worker.submit`` raises.
    """
    scores = dict(zip(pairs, reward.known(pairs), strict=True))
    todo = [pair for pair, score in scores.items() if score is None]
    scores.update(
        zip(todo, await worker.submit_until(Score(reward, lane), todo, deadline, always=always), strict=False)
    )
    return [scores[pair] for pair in pairs]


def _key(pair: Pair) -> bytes:
    text = "\0".join((str(len(pair[0])), *pair))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
