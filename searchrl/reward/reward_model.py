"""Who says how relevant a document is: the protocol of all reward models, and what remembers their scores.

``CachedReward`` keeps scores in a file, under pair and reward model, so that a job that was killed goes on where it
stopped and may be given more queries and documents. ``JudgedPool`` holds those of one batch of queries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from searchrl.data.dataset import Corpus
from searchrl.errors import CacheError, CheckpointError, EngineError, ModelError, OutputError, reason
from searchrl.models.lm_cache import AnswerStore
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, FloatArray, IntArray

SCORE_BYTES = 4
"""Of a score in the file, a float32."""
SQLITE_HEADER = b"SQLite format 3\0"


class RewardModel(Protocol):
    """Scores (query, document) pairs; higher is more relevant. The scale is the method's own: see ``gain.py``."""

    @property
    def fingerprint(self) -> str:
        """Names model, method and prompt: two reward models that may score differently differ here."""
        ...

    @property
    def absolute(self) -> bool:
        """Whether scores lie in [0, 1] and mean the same for every query; if not, compare within a query's pool."""
        ...

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """Raw scores, shape (n,), of the n pairs (queries[i], documents[i])."""
        ...


def check_finite(scores: NDArray[np.floating[Any]], queries: Sequence[str], who: str) -> FloatArray:
    """The scores of a pair for each query as float32. Raises ModelError, naming a query, unless all are finite."""
    if not np.isfinite(scores).all():
        query = queries[int(np.flatnonzero(~np.isfinite(scores))[0])]
        raise ModelError(f"{who} gave no finite score for the query {query!r}; use dtype float32")
    return np.asarray(scores, dtype=np.float32)


def checked_scores(reward: RewardModel, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
    """Ask a reward model of any origin for its scores of n pairs, (n,) float32.

    Raises ModelError where there is not one finite number for each.
    """
    try:
        scores = np.asarray(reward.score(queries, documents), dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the reward model {reward.fingerprint} gives no numbers ({reason(error)})") from error
    if scores.shape != (len(queries),):
        shape = f"shape {scores.shape} for {len(queries)} pairs"
        raise ModelError(f"the reward model {reward.fingerprint} gives scores of {shape}; one a pair is expected")
    return check_finite(scores, queries, f"the reward model {reward.fingerprint}")


class CachedReward:
    """A ``RewardModel`` in front of another: what the file has is read, the rest scored and written in one transaction.

    path: an SQLite file, made if need be. A damaged one is moved aside after a logged warning. keeps_answered: the
    reward model's EngineErrors carry the scores that came all the same, by place; they are written, too. Raises
    CheckpointError where the file is something else or cannot be written.
    """

    def __init__(self, reward: RewardModel, path: Path, *, keeps_answered: bool = False) -> None:
        self._reward = reward
        self.absolute = reward.absolute
        self._keeps_answered = keeps_answered
        self._path = path
        with self._errors():
            if path.exists() and _beginning(path) not in (b"", SQLITE_HEADER):
                raise CheckpointError(f"{path} is not a checkpoint of a search: name another file, or a new one")
            self._store = AnswerStore(path)
        self.hits = 0
        """Scores that were not computed, repeats within one call included."""

    @property
    def fingerprint(self) -> str:
        """The reward model's own."""
        return self._reward.fingerprint

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """See ``RewardModel.score``."""
        pairs = list(zip(queries, documents, strict=True))
        scorer = json.dumps(self.fingerprint)
        keys = [hashlib.sha256(f"{scorer}{json.dumps(pair)}".encode()).digest() for pair in pairs]
        with self._errors():
            known = {key: value for key, value in self._store.get(keys).items() if len(value) == SCORE_BYTES}
        missing = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}
        self.hits += len(pairs) - len(missing)
        if missing:
            try:
                asked = list(missing.values())
                scores = checked_scores(self._reward, [q for q, _ in asked], [d for _, d in asked])
            except EngineError as error:
                if self._keeps_answered:
                    order = list(missing)
                    self._put({order[i]: score for i, score in error.answered.items()})
                raise
            known.update(self._put(dict(zip(missing, scores, strict=True))))
        return np.frombuffer(b"".join(known[key] for key in keys), dtype="<f4").astype(np.float32)

    def close(self) -> None:
        """Close the file; the object is of no use afterwards."""
        self._store.close()

    def _put(self, scores: Mapping[bytes, float]) -> dict[bytes, bytes]:
        entries = {key: np.asarray(score, dtype="<f4").tobytes() for key, score in scores.items()}
        with self._errors():
            self._store.put(entries)
        return entries

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say of the checkpoint what the store would say of the language model cache, which it was made for."""
        try:
            yield
        except (CacheError, OutputError, OSError) as error:
            cause = error.__cause__ or error
            raise CheckpointError(
                f"the checkpoint {self._path} cannot be used ({cause}): make room, or name another file"
            ) from error


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(SQLITE_HEADER))


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
        self.closed = False
        """Nothing more is scored: what is not known by now stays unknown."""

    def missing(self, documents: IntArray) -> NDArray[np.int64]:
        """Pairs of (n, k) documents that are not scored yet, those of the first column first."""
        pairs = self._pairs(documents).T[documents.T != NO_DOCUMENT]
        return np.asarray(list(dict.fromkeys(pairs[~np.isin(pairs, self._keys)].tolist())), dtype=np.int64)

    def ensure(self, documents: IntArray) -> None:
        """Score what is missing of (n, k) documents."""
        missing = np.setdiff1d(self._pairs(documents)[documents != NO_DOCUMENT], self._keys)
        if len(missing) and not self.closed:
            self.learn(missing, self.score(missing))

    def batches(self, documents: IntArray, size: int = PAIRS_AT_ONCE) -> list[NDArray[np.int64]]:
        """Cut the unknown pairs in (n, k) documents into batches of about ``size``, to be scored and learned in turn.

        All queries that met a document stand in one batch, so that a language model reads it once for all of them.
        """
        pairs = np.setdiff1d(self._pairs(documents)[documents != NO_DOCUMENT], self._keys)
        pairs = pairs[np.argsort(pairs % len(self._corpus), kind="stable")]
        firsts = np.flatnonzero(np.diff(pairs % len(self._corpus), prepend=-1))  # a document's first pair
        cuts = firsts[np.diff(firsts // size, prepend=0) > 0]
        return [np.sort(batch) for batch in np.split(pairs, cuts) if len(batch)]

    def score(self, pairs: NDArray[np.int64]) -> FloatArray:
        """What the reward model says about pairs, (m,): row * corpus size + document."""
        texts = self.texts_of(pairs)
        return checked_scores(self._model, [query for query, _ in texts], [document for _, document in texts])

    def texts_of(self, pairs: NDArray[np.int64]) -> list[tuple[str, str]]:
        """Query and document of pairs (m,), in words."""
        rows, positions = np.divmod(pairs, len(self._corpus))
        distinct, which = np.unique(positions, return_inverse=True)
        texts = self._corpus.full_texts(distinct.tolist())  # once each, however many queries met it
        return [(self._texts[row], texts[i]) for row, i in zip(rows, which, strict=True)]

    def learn(self, pairs: NDArray[np.int64], scores: FloatArray) -> None:
        """Enter the scores (m,) of pairs that are not known yet."""
        keys, values = np.concatenate([self._keys, pairs]), np.concatenate([self._scores, scores])
        order = np.argsort(keys)
        self._keys, self._scores = keys[order], values[order]

    def lookup(self, documents: IntArray) -> FloatArray:
        """Scores of (n, k) documents; NaN where unknown or no document."""
        keys = self._pairs(documents)
        if not len(self._keys):
            return np.full(documents.shape, np.nan, dtype=np.float32)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        known = (self._keys[at] == keys) & (documents != NO_DOCUMENT)
        return np.where(known, self._scores[at], np.nan).astype(np.float32)

    def arrays(self) -> tuple[IntArray, FloatArray]:
        """Every scored document of each query: documents (n, widest pool) padded with -1, scores padded with NaN."""
        rows, documents = np.divmod(self._keys, len(self._corpus))
        counts = np.bincount(rows, minlength=len(self._texts))
        width = max(1, int(counts.max(initial=0)))
        columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        pool = np.full((len(self._texts), width), NO_DOCUMENT, dtype=DOCUMENT)
        scores = np.full((len(self._texts), width), np.nan, dtype=np.float32)
        pool[rows, columns] = documents
        scores[rows, columns] = self._scores
        return pool, scores

    def block(self, rows: range) -> JudgedPool:
        """The pool of consecutive queries."""
        first, last = np.searchsorted(self._keys, [rows.start * len(self._corpus), rows.stop * len(self._corpus)])
        smaller = JudgedPool(self._model, self._corpus, self._texts[rows.start : rows.stop])
        smaller._keys = self._keys[first:last] - rows.start * len(self._corpus)
        smaller._scores = self._scores[first:last]
        return smaller

    def take(self, rows: NDArray[np.intp]) -> JudgedPool:
        """The pool of the queries ``rows`` (m,), so that nothing known is asked again."""
        place = np.full(len(self._texts), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        owners, documents = np.divmod(self._keys, len(self._corpus))
        kept = place[owners] >= 0
        smaller = JudgedPool(self._model, self._corpus, [self._texts[row] for row in rows])
        smaller.learn(place[owners[kept]] * len(self._corpus) + documents[kept], self._scores[kept])
        return smaller

    def _pairs(self, documents: IntArray) -> NDArray[np.int64]:
        """The pairs of (n, k) documents with their queries, (n, k): row * corpus size + document."""
        rows = np.arange(len(documents), dtype=np.int64)[:, None]
        return np.asarray(rows * len(self._corpus) + documents, dtype=np.int64)
