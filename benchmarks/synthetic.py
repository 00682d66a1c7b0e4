"""Corpora and queries made up where only their number matters."""

from __future__ import annotations

import numpy as np

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.device import rng
from searchrl.retrieval.dense import DenseIndex, TextEncoder
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.ranking import FloatArray
from searchrl.retrieval.retriever import Retriever

WORDS = 12
"""In a synthetic document."""
VOCABULARY = 20_000
QUERY_WORDS = 8
"""In a synthetic query: so many words in a row from a document."""


def unit_vectors(n: int, dim: int, seed: int) -> FloatArray:
    """Random directions, (n, dim)."""
    vectors = rng(seed, "unit vectors", n).standard_normal((n, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def synthetic_corpus(n: int, seed: int, words: int = WORDS) -> Corpus:
    """n documents of some words each; how often a word occurs falls with its rank, as in language (Zipf)."""
    ids = [str(i) for i in range(n)]
    if words == 0:
        return Corpus(ids, [""] * n, [""] * n)
    ranks = np.minimum(rng(seed, "words", n).zipf(1.2, (n, words)), VOCABULARY)
    return Corpus(ids, [""] * n, [" ".join(f"w{rank}" for rank in row) for row in ranks.tolist()])


def synthetic_retriever(encoder: TextEncoder, n: int, depth: int, seed: int, words: int = 0) -> Retriever:
    """A dense retriever over n random vectors, with BM25 over documents of ``words`` words."""
    lexical = LexicalIndex(synthetic_corpus(n, seed, words))
    return Retriever(encoder, DenseIndex(unit_vectors(n, encoder.dim, seed)), lexical, 0.0, depth)


def synthetic_queries(corpus: Corpus, n: int, seed: int) -> QuerySet:
    """n queries without judgments: a few words in a row from random documents of a real corpus."""
    source = rng(seed, "synthetic queries", n)
    texts = []
    for i in source.integers(0, len(corpus), n):
        words = corpus.full_text(int(i)).split() or ["nothing"]
        start = int(source.integers(0, max(1, len(words) - QUERY_WORDS)))
        texts.append(" ".join(words[start : start + QUERY_WORDS]))
    return QuerySet([f"synthetic {i}" for i in range(n)], texts)
