"""Models that Ray's workers hold, each one a copy: the same calls, the same answers, on as many machines as there are.

The engine in this process says what the model is and is never loaded; whatever is computed, workers compute. A request
holds what would be computed together without Ray, so that answers are the same bits (in float32, on alike processors).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from searchrl.cluster import Pool, Request
from searchrl.config import EngineConfig, RayConfig
from searchrl.models.encoder import Encoder
from searchrl.models.language_model import Engine, FloatArray
from searchrl.progress import progress_bar
from searchrl.threads import lazy

QUERIES = 64
"""Queries in one request; each is encoded by itself."""


def load_engine(config: EngineConfig, device: str, dtype: Any, name: str | None, use: Any, **cuts: Any) -> Engine:
    """An engine, made where it is to compute."""
    from searchrl.models.loader import ModelLoader

    return ModelLoader(config, device=device, dtype=dtype, cache=False).backend(name, use, **cuts)


def load_encoder(name: str, device: str, dtype: str) -> Encoder:
    """An encoder, likewise."""
    return Encoder(name, device, dtype=dtype)


class RayLM:
    """An ``Engine`` whose answers come from a pool of workers. See ``LanguageModel`` for the three calls.

    engine: says what the model is. make: makes it in a worker.
    """

    def __init__(self, engine: Engine, make: Callable[[], Engine], config: RayConfig) -> None:
        self._engine, self._make, self._config = engine, make, config
        self.workers = config.ray_workers
        """Processes that compute."""

    @lazy
    def _pool(self) -> Pool:
        return Pool(self._make, self._config)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._engine.name

    @property
    def parameters(self) -> int | None:
        """Number of weights."""
        return self._engine.parameters

    @property
    def fingerprint(self) -> str:
        """The engine's own: Ray changes no answer."""
        return self._engine.fingerprint

    @property
    def description(self) -> str:
        """For people: the model, what runs it, and how often."""
        return f"{self._engine.description} by {self.workers} Ray workers"

    def rest(self) -> None:
        """End the workers, so that others have their room; the next call starts new ones."""
        if "_pool" in self.__dict__:
            self._pool.close()
            del self.__dict__["_pool"]

    def close(self) -> None:
        """End the workers."""
        self.rest()
        self._engine.close()

    def each(self, requests: Sequence[Request]) -> Iterator[tuple[int, Any]]:
        """Place and answer of every request, as they come; see ``Pool.each``."""
        return self._pool.each(requests)

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """See ``LanguageModel.generate``."""
        how = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        answers: list[str] = self._pool.ask("generate", list(prompts), **how)
        return answers

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> FloatArray:
        """See ``LanguageModel.choice_logprobs``."""
        answers: FloatArray = self._pool.ask("choice_logprobs", list(prompts), list(choices))
        return answers

    def continuation_logprobs(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """See ``LanguageModel.continuation_logprobs``."""
        answers: FloatArray = self._pool.ask("continuation_logprobs", list(contexts), list(continuations))
        return answers


class RayEncoder(Encoder):
    """An ``Encoder`` whose workers are there while many texts are encoded; a few are encoded in this process."""

    def __init__(self, name: str, device: str, *, dtype: str, config: RayConfig) -> None:
        super().__init__(name, device, dtype=dtype)
        self._make, self._config = partial(load_encoder, name, device, dtype), config

    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: Literal["query", "document"] = "document",
        show_progress: bool = False,
        description: str = "encoding",
    ) -> FloatArray:
        """See ``Encoder.encode``."""
        if len(texts) <= QUERIES:
            return super().encode(texts, kind=kind, show_progress=show_progress, description=description)
        everyone = [list(range(start, min(start + QUERIES, len(texts)))) for start in range(0, len(texts), QUERIES)]
        batches = everyone if kind == "query" else self.batches(texts)
        requests = [Request("encode", ([texts[i] for i in batch],), {"kind": kind}) for batch in batches]
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        pool = Pool(self._make, self._config)
        try:
            with progress_bar(len(texts), description, "text", show=show_progress) as bar:
                bar.set_postfix_str(f"{pool.workers} workers")
                for place, answer in pool.each(requests):
                    vectors[batches[place]] = answer
                    bar.update(len(batches[place]))
        finally:
            pool.close()
        return vectors
