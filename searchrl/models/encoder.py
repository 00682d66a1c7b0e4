"""Texts to vectors, with a sentence-transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from searchrl.errors import ConfigError, ModelError
from searchrl.models.batching import scrub
from searchrl.models.fingerprint import folder_fingerprint
from searchrl.models.presets import DEFAULT_ENCODER, encoder_folder
from searchrl.models.quiet import quiet_transformers

FloatArray = NDArray[np.float32]


class Encoder:
    """A sentence encoder; the embedded all-MiniLM-L6-v2 unless named otherwise.

    name: see ``presets.encoder_folder``. device: as torch names it. dtype: ``float32`` everywhere by default, because
    published scores are made in it and encoders are small. batch_size: texts in one forward pass.
    Raises ModelError where the model cannot be had or is not a sentence-transformers model.
    """

    def __init__(
        self, name: str = DEFAULT_ENCODER, device: str = "cpu", *, dtype: str = "float32", batch_size: int = 32
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"the encoder's batch size is {batch_size}; it must be at least 1")
        folder = encoder_folder(name)
        if not (folder / "modules.json").is_file():
            raise ModelError(f"{folder} is not a sentence-transformers model (no modules.json); use {DEFAULT_ENCODER}")

        import torch
        from sentence_transformers import SentenceTransformer

        try:
            with quiet_transformers():
                self._model = SentenceTransformer(
                    str(folder),
                    device=device,
                    local_files_only=True,
                    model_kwargs={"dtype": getattr(torch, dtype), "use_safetensors": True},
                )
        except Exception as error:  # a foreign folder fails in as many ways as there are module classes
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ModelError(f"the encoder {name!r} cannot be loaded from {folder} ({reason})") from error
        self._model.eval()
        self._batch_size = batch_size
        self.name = name
        self.fingerprint = folder_fingerprint(folder, dtype)
        """Names weights, configuration and numeric format."""
        self.dim = len(self.encode(["dimension"])[0])
        """Length of a vector."""

    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: Literal["query", "document"] = "document",
        show_progress: bool = False,
        description: str = "encoding",
    ) -> FloatArray:
        """Unit-length vectors, (n, dim) float32, in the order of ``texts``; what exceeds the model's maximum is cut.

        ``kind`` selects the model's own prompt for queries or documents, where it defines one. Texts run in batches of
        similar length, so a vector may differ in its last bits with the company it had; the same call repeats exactly.
        """
        from tqdm import tqdm

        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
        vectors: list[FloatArray] = [np.empty(0, dtype=np.float32)] * len(texts)
        with tqdm(total=len(texts), desc=description, unit="text", disable=not show_progress) as bar:
            for start in range(0, len(order), self._batch_size):
                batch = order[start : start + self._batch_size]
                part = encode(
                    [scrub(texts[i]) for i in batch],
                    batch_size=self._batch_size,
                    show_progress_bar=False,
                    convert_to_numpy=True,
                )
                for i, vector in zip(batch, part, strict=True):
                    vectors[i] = vector
                bar.update(len(batch))
        matrix: FloatArray = np.stack(vectors).astype(np.float32)
        if not np.isfinite(matrix).all():
            raise ModelError(f"the encoder {self.name!r} gave vectors that are not finite; use dtype float32")
        matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
        return matrix
