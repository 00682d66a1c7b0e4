"""The judged pool: raw scores that the reward model has given (query, document) pairs, each asked for once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from searchrl.data.dataset import Corpus
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray
from searchrl.reward.reward_model import RewardModel

PAIRS_AT_ONCE = 1 << 16
"""Pairs whose texts may be in memory together: some 200 MB once they are prompts."""


class JudgedPool:
    """Scores of n queries' documents by one reward model; unknown pairs are scored together, in one batch."""

    def __init__(self, reward_model: RewardModel, corpus: Corpus, texts: Sequence[str]) -> None:
        self._model = reward_model
        self._corpus = corpus
        self._texts = texts
        self._keys = np.empty(0, dtype=np.int64)
        self._scores = np.empty(0, dtype=np.float32)

    def ensure(self, documents: NDArray[np.int32]) -> NDArray[np.int32]:
        """Score what is missing of (n, k) documents; returns how many new pairs each query cost, (n,) int32."""
        missing = np.setdiff1d(self._pairs(documents)[documents != NO_DOCUMENT], self._keys)
        if len(missing):
            self.learn(missing, self.score(missing))
        return np.bincount(missing // len(self._corpus), minlength=len(documents)).astype(np.int32)

    def batches(self, documents: NDArray[np.int32], size: int = PAIRS_AT_ONCE) -> list[NDArray[np.int64]]:
        """Cut all pairs in (n, k) documents into batches of about ``size``, to be scored and learned one by one.

        All queries that met a document stand in one batch, so that a language model reads it once for all of them.
        """
        pairs = np.unique(self._pairs(documents)[documents != NO_DOCUMENT])
        pairs = pairs[np.argsort(pairs % len(self._corpus), kind="stable")]
        firsts = np.flatnonzero(np.diff(pairs % len(self._corpus), prepend=-1))  # a document's first pair
        cuts = firsts[np.diff(firsts // size, prepend=0) > 0]
        return [np.sort(batch) for batch in np.split(pairs, cuts) if len(batch)]

    def score(self, pairs: NDArray[np.int64]) -> FloatArray:
        """What the reward model says about pairs, (m,): row * corpus size + document."""
        rows, positions = np.divmod(pairs, len(self._corpus))
        distinct, which = np.unique(positions, return_inverse=True)
        texts = [self._corpus.full_text(int(p)) for p in distinct]  # once each, however many queries met it
        return self._model.score([self._texts[row] for row in rows], [texts[i] for i in which])

    def learn(self, pairs: NDArray[np.int64], scores: FloatArray) -> None:
        """Enter the scores (m,) of pairs that are not known yet."""
        keys, values = np.concatenate([self._keys, pairs]), np.concatenate([self._scores, scores])
        order = np.argsort(keys)
        self._keys, self._scores = keys[order], values[order]

    def lookup(self, documents: NDArray[np.int32]) -> FloatArray:
        """Scores of (n, k) documents; NaN where unknown or no document."""
        keys = self._pairs(documents)
        if not len(self._keys):
            return np.full(documents.shape, np.nan, dtype=np.float32)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        known = (self._keys[at] == keys) & (documents != NO_DOCUMENT)
        return np.where(known, self._scores[at], np.nan).astype(np.float32)

    def arrays(self) -> tuple[NDArray[np.int32], FloatArray]:
        """Every scored document of each query: documents (n, widest pool) padded with -1, scores padded with NaN."""
        rows, documents = np.divmod(self._keys, len(self._corpus))
        counts = np.bincount(rows, minlength=len(self._texts))
        width = max(1, int(counts.max(initial=0)))
        columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        pool = np.full((len(self._texts), width), NO_DOCUMENT, dtype=np.int32)
        scores = np.full((len(self._texts), width), np.nan, dtype=np.float32)
        pool[rows, columns] = documents
        scores[rows, columns] = self._scores
        return pool, scores

    def take(self, rows: NDArray[np.intp]) -> JudgedPool:
        """The pool of the queries ``rows`` (m,), so that nothing known is asked again."""
        place = np.full(len(self._texts), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        owners, documents = np.divmod(self._keys, len(self._corpus))
        kept = place[owners] >= 0
        smaller = JudgedPool(self._model, self._corpus, [self._texts[row] for row in rows])
        smaller.learn(place[owners[kept]] * len(self._corpus) + documents[kept], self._scores[kept])
        return smaller

    def _pairs(self, documents: NDArray[np.int32]) -> NDArray[np.int64]:
        """The pairs of (n, k) documents with their queries, (n, k): row * corpus size + document."""
        rows = np.arange(len(documents), dtype=np.int64)[:, None]
        return np.asarray(rows * len(self._corpus) + documents, dtype=np.int64)
