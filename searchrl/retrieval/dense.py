"""Exact dense search: cosine similarity of unit vectors, a block of queries at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.errors import CacheError
from searchrl.retrieval.ranking import FloatArray
from searchrl.storage import load_arrays, save_arrays

logger = logging.getLogger(__name__)


TextKind = Literal["query", "document"]


class TextEncoder(Protocol):
    """What turns texts into unit vectors."""

    @property
    def fingerprint(self) -> str:
        """Names the weights."""
        ...

    @property
    def dim(self) -> int:
        """Width of a vector."""
        ...

    def encode(self, texts: Sequence[str], *, kind: TextKind, show_progress: bool, description: str) -> FloatArray:
        """Unit vectors, shape (len(texts), dim)."""
        ...


class DenseIndex:
    """Document vectors of a corpus, one unit row a document; memory-mapped when read from disk."""

    def __init__(self, vectors: FloatArray) -> None:
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.vectors)

    def scores(self, queries: FloatArray) -> FloatArray:
        """Cosine of every query with every document, shape (n, documents)."""
        return np.asarray(queries @ self.vectors.T, dtype=np.float32)


def build_dense_index(corpus: Corpus, encoder: TextEncoder, cache: Path | None, show_progress: bool) -> DenseIndex:
    """Encode a corpus, or map the vectors that were stored for this very corpus and encoder.

    A stored index that is damaged is rebuilt after a warning in the log.
    """
    folder = cache / "index" / f"{corpus.fingerprint}-{encoder.fingerprint}" if cache else None
    if folder and folder.exists():
        try:
            return DenseIndex(load_arrays(folder)[0]["vectors"])
        except (CacheError, KeyError) as error:
            logger.warning("The stored index is damaged and will be rebuilt: %s", error)
    texts = [corpus.full_text(i) for i in range(len(corpus))]
    vectors = encoder.encode(texts, kind="document", show_progress=show_progress, description="encode documents")
    if folder:
        save_arrays(folder, {"vectors": vectors}, {"corpus": corpus.fingerprint, "encoder": encoder.fingerprint})
    return DenseIndex(vectors)
