"""Who says how relevant a document is: the protocol of all reward models, and the file that remembers their scores.

The file knows nothing of the job: it maps a pair under a reward model to a score. So a job that was killed goes on
where it stopped, and queries and documents may be added; with another model, template or prompt nothing in it applies.
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

from searchrl.errors import CacheError, CheckpointError, EngineError, ModelError, OutputError
from searchrl.models.answer_store import AnswerStore
from searchrl.models.language_model import FloatArray

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


class CachedReward:
    """A ``RewardModel`` in front of another: what the file has is read, the rest scored and written in one transaction.

    path: an SQLite file, made if need be. A damaged one is moved aside after a logged warning. keeps_answered: the
    reward model's EngineErrors carry the scores that came all the same, by place; they are written, too. Raises
    CheckpointError where the file is something else or cannot be written.
    """

    def __init__(self, reward: RewardModel, path: Path, *, keeps_answered: bool = False) -> None:
        self._reward = reward
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

    @property
    def absolute(self) -> bool:
        """The reward model's own."""
        return self._reward.absolute

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """See ``RewardModel.score``."""
        pairs = list(zip(queries, documents, strict=True))
        scorer = json.dumps(self.fingerprint)
        keys = [hashlib.sha256(f"{scorer}{json.dumps(pair)}".encode()).digest() for pair in pairs]
        with self._errors():
            known = self._store.get(keys)
        missing = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}
        self.hits += len(pairs) - len(missing)
        if missing:
            try:
                scores = self._reward.score([q for q, _ in missing.values()], [d for _, d in missing.values()])
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
