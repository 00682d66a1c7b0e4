"""Parts of a search small enough to check by hand: an encoder without a model, corpora and rankings from literals."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.retrieval.dense import DenseIndex, TextKind
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.memory import MemoryIndex
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, Ranking
from searchrl.retrieval.retriever import Retriever


class WordEncoder:
    """Every word has a direction of its own; a text points where its words do together."""

    fingerprint = "words"
    dim = 16

    def __init__(self) -> None:
        self.encoded = 0
        """Texts encoded so far."""

    def encode(self, texts: Sequence[str], *, kind: TextKind, show_progress: bool, description: str) -> FloatArray:
        """Unit vectors, shape (len(texts), 16)."""
        self.encoded += len(texts)
        sums = np.array([sum(self._direction(w) for w in ["", *text.lower().split()]) for text in texts])
        return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)

    def _direction(self, word: str) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(word.encode())).normal(size=self.dim)


def corpus_of(*texts: str) -> Corpus:
    """Documents d0, d1, ... without titles."""
    return Corpus([f"d{i}" for i in range(len(texts))], [""] * len(texts), list(texts))


def retriever_of(corpus: Corpus, *, share: float = 0.0, depth: int = 10) -> Retriever:
    """Both indexes over a corpus, with the word encoder."""
    encoder = WordEncoder()
    vectors = encoder.encode(corpus.texts, kind="document", show_progress=False, description="")
    return Retriever(encoder, MemoryIndex(DenseIndex(vectors), LexicalIndex(corpus)), share, depth)


def ranking_of(*rows: Sequence[tuple[int, float]], depth: int | None = None) -> Ranking:
    """Rankings from (document, score) pairs, padded to the longest or to ``depth``."""
    width = max(len(row) for row in rows) if depth is None else depth
    documents = np.full((len(rows), width), NO_DOCUMENT, dtype=np.int32)
    scores = np.full((len(rows), width), -np.inf, dtype=np.float32)
    for i, row in enumerate(rows):
        for j, (document, score) in enumerate(row):
            documents[i, j], scores[i, j] = document, score
    return Ranking(documents, scores)
