"""A cross-encoder: a reranker that sentence-transformers runs, with whatever the model's author put behind the network.

Nearly the model that ``head.py`` reads as a plain pair; but sentence-transformers also knows the activation that turns
its output into a score, prompts, and models made of several modules.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from searchrl.errors import ConfigError, ModelError
from searchrl.models.batching import scrub
from searchrl.models.fingerprint import folder_fingerprint
from searchrl.models.hub import model_folder
from searchrl.models.language_model import FloatArray
from searchrl.models.quiet import loading
from searchrl.threads import one_at_a_time

OFFLINE_CHOICE = "a causal language model: smollm2-135m (installed with SearchRL)"


class CrossEncoderReward:
    """A model as sentence-transformers' ``CrossEncoder`` loads it, with one output.

    model: a folder or a hub name. Weights must be safetensors; code that comes with a model is never run.
    max_length: tokens that query and document together may take; by default what the model was made for.
    Raises ConfigError on int8, which is not to be had here; ModelError when the model cannot be had or loaded, has
    other than one output, or is an encoder without a head (which would be made up of random numbers).
    """

    def __init__(
        self,
        model: str | Path,
        device: str = "cpu",
        dtype: str = "float32",
        max_length: int | None = None,
        batch_size: int = 32,
    ) -> None:
        if dtype == "int8":
            raise ConfigError("a cross-encoder does not run in int8: use float32, or scorer 'head', which does")
        self.name = str(model)
        folder = model_folder(self.name, OFFLINE_CHOICE)
        self._model = _load(self.name, folder, device, dtype, max_length)
        self._batch_size = batch_size
        self.fingerprint = f"cross-encoder-1 {folder_fingerprint(folder, dtype, str(max_length))}"
        """Names weights, tokenizer, numeric format and the cut."""

    @property
    def absolute(self) -> bool:
        """True where a sigmoid ends the model; a bare output has no common scale."""
        import torch

        return isinstance(self._model.activation_fn, torch.nn.Sigmoid)

    @one_at_a_time
    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """The model's score of the n pairs (queries[i], documents[i]), shape (n,), its own activation applied.

        Raises ModelError when the model gives something that is not a finite number.
        """
        pairs = [[scrub(query), scrub(document)] for query, document in zip(queries, documents, strict=True)]
        if not pairs:
            return np.zeros(0, dtype=np.float32)
        scores = self._model.predict(pairs, batch_size=self._batch_size, show_progress_bar=False)
        if not np.isfinite(scores).all():
            query = queries[int(np.flatnonzero(~np.isfinite(scores))[0])]
            raise ModelError(f"{self.name} gave no finite score for the query {query!r}; use dtype float32")
        return np.asarray(scores, dtype=np.float32)


def _load(name: str, folder: Path, device: str, dtype: str, max_length: int | None) -> Any:
    """The model from a folder. Raises ModelError as ``CrossEncoderReward`` says."""
    import torch
    from sentence_transformers import CrossEncoder

    for kind in _architectures(name, folder):
        if kind.endswith(("Model", "ForMaskedLM")) and not kind.endswith("LMHeadModel"):
            raise ModelError(f"{name} is a {kind}, not a reranker: it has no weights for a score")
    try:
        with loading():
            model = CrossEncoder(
                str(folder),
                max_length=max_length,
                device=device,
                local_files_only=True,
                model_kwargs={"dtype": getattr(torch, dtype), "use_safetensors": True},
            )
    except Exception as error:  # a foreign folder fails in as many ways as there are model classes
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{name} cannot be loaded as a cross-encoder ({reason}); or use {OFFLINE_CHOICE}") from error
    if model.num_labels != 1:
        raise ModelError(f"{name} has {model.num_labels} outputs, a reranker has one; or use {OFFLINE_CHOICE}")
    model.eval()
    return model


def _architectures(name: str, folder: Path) -> list[str]:
    """The classes that ``config.json`` names; a model of several modules may have none at the top."""
    file = folder / "config.json"
    if not file.exists():
        return []
    try:
        return [str(kind) for kind in json.loads(file.read_text(encoding="utf-8")).get("architectures") or []]
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{name} cannot be loaded as a cross-encoder: {file} cannot be read ({error})") from error
