"""Texts to vectors by a server's /v1/embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from searchrl.errors import ConfigError, EngineError
from searchrl.models.batching import scrub
from searchrl.models.encoder import FloatArray
from searchrl.models.http_client import HttpClient
from searchrl.models.served_model import ServedModel, served_model
from searchrl.threads import lazy

CUT = {"vllm": {"truncate_prompt_tokens": -1}}
"""How a server is told to cut long texts instead of refusing them; others cut by themselves or have no word for it."""


class HttpEncoder:
    """An embedding model behind an OpenAI-compatible server; what ``Encoder`` offers.

    model: its name on the server; by default the only one served. query_prompt, document_prompt: put before each text,
    where the model wants that; a server does not. batch_size: texts in one request. api_key, concurrency, timeout,
    attempts, backoff: see ``HttpClient``. Raises ConfigError on an impossible limit; at the first text, EngineError
    where the server does not answer or does not embed.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        concurrency: int = 8,
        timeout: float = 120.0,
        attempts: int = 6,
        backoff: float = 0.5,
        batch_size: int = 32,
        query_prompt: str = "",
        document_prompt: str = "",
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}; it must be at least 1")
        self._client = HttpClient(
            base_url, api_key=api_key, concurrency=concurrency, timeout=timeout, attempts=attempts, backoff=backoff
        )
        self._model = model
        self._batch_size = batch_size
        self._prompts = {"query": query_prompt, "document": document_prompt}

    @lazy
    def served(self) -> ServedModel:
        """What the server says about the model."""
        return served_model(self._client, self._model)

    @property
    def name(self) -> str:
        """The model's name on the server."""
        return self.served.name

    @property
    def fingerprint(self) -> str:
        """Address, name, what the server says about the model, and both prompts."""
        return f"http-1 {self.served.fingerprint} {sorted(self._prompts.items())!r}"

    @lazy
    def dim(self) -> int:
        """Length of a vector."""
        return len(self.encode(["dimension"])[0])

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: Literal["query", "document"] = "document",
        show_progress: bool = False,
        description: str = "encoding",
    ) -> FloatArray:
        """Unit-length vectors, (n, dim) float32, in the order of ``texts``. The server cuts what is too long.

        Raises EngineError, whose ``answered`` holds the vectors of the batches that were answered all the same.
        """
        from tqdm import tqdm

        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        # An empty text has no token to embed; servers refuse it.
        shown = [self._prompts[kind] + scrub(text) or " " for text in texts]
        batches = [shown[i : i + self._batch_size] for i in range(0, len(shown), self._batch_size)]
        _ = self.served  # asked once, not by every thread
        with tqdm(total=len(texts), desc=description, unit="text", disable=not show_progress) as bar:

            def embed(batch: list[str]) -> FloatArray:
                vectors = self._embed(batch)
                bar.update(len(batch))
                return vectors

            vectors = np.concatenate(self._client.each(batches, embed))
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))

    def _embed(self, batch: list[str]) -> FloatArray:
        body = {"model": self.name, "input": batch, "encoding_format": "float", **CUT.get(self.served.server, {})}
        answer: Any = self._client.post("/v1/embeddings", body)
        try:
            entries = sorted(answer["data"], key=lambda entry: int(entry["index"]))
            vectors = np.array([entry["embedding"] for entry in entries], dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(
                f"{self._client.base_url}/v1/embeddings does not answer with vectors: {answer!s:.80}"
            ) from error
        if vectors.ndim != 2 or len(vectors) != len(batch) or not np.isfinite(vectors).all():
            raise EngineError(
                f"{self._client.base_url}/v1/embeddings answers {len(batch)} texts with an array of shape "
                f"{vectors.shape}, not with one finite vector each; is {self.name} served with pooling?"
            )
        return vectors
