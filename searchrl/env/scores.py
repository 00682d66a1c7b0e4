"""What the reward model has said so far: raw scores of (query, document) pairs, each asked for once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from searchrl.data.dataset import Corpus
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray
from searchrl.reward.reward_model import RewardModel


class ScoreBook:
    """Scores of n queries' documents by one reward model; unknown pairs are scored together, in one batch."""

    def __init__(self, reward_model: RewardModel, corpus: Corpus, texts: Sequence[str]) -> None:
        self._model = reward_model
        self._corpus = corpus
        self._texts = texts
        self._keys = np.empty(0, dtype=np.int64)
        self._scores = np.empty(0, dtype=np.float32)

    def ensure(self, documents: NDArray[np.int32]) -> NDArray[np.int32]:
        """Score what is missing of (n, k) documents; returns how many new pairs each query cost, (n,) int32."""
        n = len(documents)
        keys = (np.arange(n, dtype=np.int64)[:, None] * len(self._corpus) + documents)[documents != NO_DOCUMENT]
        missing = np.setdiff1d(keys, self._keys)
        rows, positions = np.divmod(missing, len(self._corpus))
        if len(missing):
            scores = self._model.score(
                [self._texts[row] for row in rows], [self._corpus.full_text(int(p)) for p in positions]
            )
            self._keys = np.concatenate([self._keys, missing])
            self._scores = np.concatenate([self._scores, scores])
            order = np.argsort(self._keys)
            self._keys, self._scores = self._keys[order], self._scores[order]
        return np.bincount(rows, minlength=n).astype(np.int32)

    def lookup(self, documents: NDArray[np.int32]) -> FloatArray:
        """Scores of (n, k) documents; NaN where unknown or no document."""
        keys = np.arange(len(documents), dtype=np.int64)[:, None] * len(self._corpus) + documents
        if not len(self._keys):
            return np.full(documents.shape, np.nan, dtype=np.float32)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        known = (self._keys[at] == keys) & (documents != NO_DOCUMENT)
        return np.where(known, self._scores[at], np.nan).astype(np.float32)

    def pools(self) -> tuple[NDArray[np.int32], FloatArray]:
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
