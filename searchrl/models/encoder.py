"""Texts to vectors, with a sentence-transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from searchrl.device import choose_device, encoder_dtype
from searchrl.errors import ConfigError, ModelError
from searchrl.models.batching import scrub, token_batches
from searchrl.models.fingerprint import folder_fingerprint, format_name
from searchrl.models.presets import DEFAULT_ENCODER, encoder_folder
from searchrl.models.quiet import loading
from searchrl.threads import lazy, one_at_a_time

FloatArray = NDArray[np.float32]

CHARACTERS_PER_TOKEN = 4
"""Of English prose, about; it only shapes batches."""


class Encoder:
    """A sentence encoder; the embedded all-MiniLM-L6-v2 unless named otherwise. Loaded when it is first needed.

    name: see ``presets.encoder_folder``. device: as torch names it. dtype: see ``device.encoder_dtype``; ``int8`` on
    x86 CPUs (see ``int8.py``), ``bfloat16`` or ``float16`` elsewhere are faster than the default, ``float32``.
    token_budget: about as many tokens in one forward pass; by default 1,024 on a CPU, whose cache that fits, else
    32,768. Raises ModelError where the model cannot be had or is not a sentence-transformers model; at the first text,
    ModelError where its files are damaged.
    """

    def __init__(
        self,
        name: str = DEFAULT_ENCODER,
        device: str = "cpu",
        *,
        dtype: str = "auto",
        token_budget: int | None = None,
    ) -> None:
        self._budget = token_budget if token_budget is not None else (1024 if device == "cpu" else 32768)
        if self._budget < 1:
            raise ConfigError(f"the encoder's token budget is {self._budget}; it must be at least 1")
        self._folder = encoder_folder(name)
        if not (self._folder / "modules.json").is_file():
            raise ModelError(
                f"{self._folder} is not a sentence-transformers model (no modules.json); use {DEFAULT_ENCODER}"
            )
        self.name = name
        self._device = device
        self.dtype = encoder_dtype(choose_device(device), dtype).dtype
        """Its numeric format."""

    @lazy
    def fingerprint(self) -> str:
        """Names weights, configuration and numeric format."""
        return folder_fingerprint(self._folder, format_name(self.dtype))

    @lazy
    def dim(self) -> int:
        """Length of a vector."""
        return len(self.encode(["dimension"])[0])

    @lazy
    def _model(self) -> Any:
        import torch
        from sentence_transformers import SentenceTransformer

        _ = self.fingerprint  # of the files as they are now, should they change while the model is in use
        dtype = torch.float32 if self.dtype == "int8" else getattr(torch, self.dtype)
        try:
            with loading():
                model = SentenceTransformer(
                    str(self._folder),
                    device=self._device,
                    local_files_only=True,
                    model_kwargs={"dtype": dtype, "use_safetensors": True},
                )
        except Exception as error:  # a foreign folder fails in as many ways as there are module classes
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ModelError(f"the encoder {self.name!r} cannot be loaded from {self._folder} ({reason})") from error
        model.eval()
        if self.dtype == "int8":
            from searchrl.models.int8 import to_int8

            to_int8(model, lambda text: model.encode([text], show_progress_bar=False))
        return model

    @one_at_a_time
    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: Literal["query", "document"] = "document",
        show_progress: bool = False,
        description: str = "encoding",
    ) -> FloatArray:
        """Unit-length vectors, (n, dim) float32, in the order of ``texts``; what exceeds the model's maximum is cut.

        ``kind`` selects the model's own prompt for queries or documents, where it defines one. Queries run one by one,
        so that a query's vector is the same bits in any company; documents in batches of similar length, where the last
        bits may differ with the company, but the same call repeats exactly.
        """
        from tqdm import tqdm

        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        longest = self._model.max_seq_length or 512
        lengths = [min(1 + len(text) // CHARACTERS_PER_TOKEN, longest) for text in texts]
        vectors: FloatArray | None = None
        with tqdm(total=len(texts), desc=description, unit="text", disable=not show_progress) as bar:
            for batch in token_batches(lengths, 1 if kind == "query" else self._budget):
                part = encode(
                    [scrub(texts[i]) for i in batch],
                    batch_size=len(batch),
                    show_progress_bar=False,
                    convert_to_numpy=True,
                )
                if vectors is None:
                    vectors = np.empty((len(texts), part.shape[1]), dtype=np.float32)
                vectors[batch] = part
                bar.update(len(batch))
        assert vectors is not None
        if not np.isfinite(vectors).all():
            raise ModelError(f"the encoder {self.name!r} gave vectors that are not finite; use dtype float32")
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors
