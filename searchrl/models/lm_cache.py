"""Remembers every answer of a language model on disk, so that none is computed twice, on any day.

One SQLite file (WAL): a killed job loses at most the chunk that was being computed, and two processes may share it. An
answer's key is a SHA-256 over model fingerprint, call, prompt and parameters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from searchrl.errors import EngineError
from searchrl.files import cache_dir
from searchrl.models.answer_store import AnswerStore
from searchrl.models.language_model import FloatArray, LanguageModel

CHUNK = 64
"""Answers computed, then stored in one transaction."""


def default_cache_path() -> Path:
    """The cache file in the user's cache folder. Raises OutputError where that cannot be written."""
    return cache_dir() / "language_model.sqlite"


class CachedLanguageModel:
    """A ``LanguageModel`` in front of another: what was asked before is read, the rest computed and kept.

    path: the file, made if need be; None keeps answers in memory only. Raises OutputError where the file cannot be
    written, CacheError where it is somebody else's database; a damaged file is moved aside after a logged warning.
    """

    def __init__(
        self, lm: LanguageModel, path: Path | None, *, chunk: int = CHUNK, show_progress: bool = False
    ) -> None:
        self._lm = lm
        self._store = AnswerStore(path)
        self._chunk = chunk
        self.show_progress = show_progress
        self.hits = 0
        """Answers given without the model, repeats within one call included."""
        self.calls = 0
        """Answers that the model computed."""

    @property
    def fingerprint(self) -> str:
        """The model's own."""
        return self._lm.fingerprint

    def close(self) -> None:
        """Close the file; the object is of no use afterwards."""
        self._store.close()

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """See ``LanguageModel.generate``."""
        settings = [max_new_tokens, temperature, seed if temperature else 0]

        def compute(chosen: Sequence[str]) -> list[str]:
            return self._lm.generate(chosen, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)

        values = self._answers("generate", settings, list(prompts), _by_length, compute, _text_to_bytes)
        return [value.decode("utf-8", "surrogatepass") for value in values]

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> FloatArray:
        """See ``LanguageModel.choice_logprobs``."""

        def compute(chosen: Sequence[str]) -> FloatArray:
            return self._lm.choice_logprobs(chosen, choices)

        # In lexical order, so that prompts with a common beginning are computed together.
        values = self._answers("choice_logprobs", list(choices), list(prompts), str, compute, _to_bytes)
        return _from_bytes(values).reshape(len(prompts), len(choices))

    def continuation_logprobs(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """See ``LanguageModel.continuation_logprobs``."""

        def compute(chosen: Sequence[tuple[str, str]]) -> FloatArray:
            return self._lm.continuation_logprobs([c for c, _ in chosen], [c for _, c in chosen])

        pairs = list(zip(contexts, continuations, strict=True))
        # Ordered by context, so that a chunk holds all pairs of a context and the model computes it once.
        return _from_bytes(self._answers("continuation_logprobs", [], pairs, _by_context, compute, _to_bytes))

    def _answers(
        self,
        call: str,
        settings: Sequence[Any],
        items: Sequence[Any],
        group: Callable[[Any], Any],
        compute: Callable[[Sequence[Any]], Sequence[Any] | FloatArray],
        to_bytes: Callable[[Any], bytes],
    ) -> list[bytes]:
        """The answer to each item, from the store or from ``compute``, which gets chunks of whole groups.

        Chunks are cut from the sorted rest, so that a job that was killed and starts again computes the chunks it had
        left, with the same members and therefore the same last bits. What a server answered of a chunk before it
        failed is stored, too.
        """
        from tqdm import tqdm

        prefix = json.dumps([self.fingerprint, call, settings])
        keys = [hashlib.sha256(f"{prefix}{json.dumps(item)}".encode()).digest() for item in items]
        known = self._store.get(keys)
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
        todo = sorted(missing.items(), key=lambda entry: (group(entry[1]), entry[1]), reverse=True)
        self.hits += len(items) - len(todo)
        with tqdm(total=len(todo), desc=call, unit="item", disable=not (self.show_progress and todo)) as bar:
            chunk: list[tuple[bytes, Any]] = []
            groups = [list(members) for _, members in groupby(todo, key=lambda entry: group(entry[1]))]
            for i, members in enumerate(groups):
                chunk += members
                if len(chunk) >= self._chunk or i == len(groups) - 1:
                    try:
                        answers = compute([item for _, item in chunk])
                    except EngineError as error:
                        self._store.put({chunk[i][0]: to_bytes(answer) for i, answer in error.answered.items()})
                        raise
                    fresh = {key: to_bytes(answer) for (key, _), answer in zip(chunk, answers, strict=True)}
                    self._store.put(fresh)
                    known.update(fresh)
                    self.calls += len(fresh)
                    bar.update(len(fresh))
                    chunk = []
        return [known[key] for key in keys]


def _by_length(prompt: str) -> tuple[int, str]:
    return len(prompt), prompt


def _by_context(pair: tuple[str, str]) -> tuple[int, str]:
    return len(pair[0]), pair[0]


def _text_to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _to_bytes(values: Any) -> bytes:
    return np.asarray(values, dtype="<f4").tobytes()


def _from_bytes(values: Sequence[bytes]) -> FloatArray:
    return np.frombuffer(b"".join(values), dtype="<f4").astype(np.float32)
