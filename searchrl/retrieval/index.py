"""What every index of documents offers, wherever it keeps them: in memory, in FAISS, in Milvus.

A document is known by its place in the corpus. Whoever searches, rewrites or observes asks an index through this
protocol alone, so that the documents need not be in the same process, nor on the same machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from searchrl.retrieval.ranking import DOCUMENT, FloatArray, IntArray, Queries, Ranking


class Words(Protocol):
    """The lexical side of an index: terms, and their weights in documents."""

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Term -> its column."""
        ...

    @property
    def idf(self) -> NDArray[np.float64]:
        """(vocabulary,) inverse document frequency of each term, as BM25 has it."""
        ...

    def query_terms(self, texts: Sequence[str]) -> Any:
        """Term counts of texts, CSR (len(texts), vocabulary); unknown words are left out."""
        ...

    def terms(self, documents: IntArray) -> Any:
        """BM25 weights of every term of documents (m,), CSR (m, vocabulary) float32, columns in order."""
        ...


class Index(Words, Protocol):
    """Documents that can be found by vectors and by words.

    exclude: (n,) a document that is not to be returned for the query, negative for none. Rankings are (n, k), padded
    where there are fewer documents. An index that is not in this process raises EngineError where it is not
    reached.
    """

    def __len__(self) -> int: ...

    @property
    def description(self) -> Mapping[str, object]:
        """What shapes its rankings, JSON-able; empty where they are those of comparing everything."""
        ...

    def nearest(self, vectors: FloatArray, k: int, exclude: IntArray) -> Ranking:
        """The k documents with the highest inner product for each of n vectors (n, dim)."""
        ...

    def lexical(self, terms: Any, k: int, exclude: IntArray) -> Ranking:
        """The k documents with the highest BM25 for each row of term weights, of those that share a word with it."""
        ...

    def hybrid(self, queries: Queries, k: int, exclude: IntArray) -> Ranking:
        """The k best by cosine and BM25, each scaled to [0, 1] over all documents, mixed by each query's share."""
        ...

    def vectors(self, documents: IntArray) -> FloatArray:
        """Vectors of documents of any shape, (*shape, dim)."""
        ...

    def texts(self, documents: IntArray) -> list[str]:
        """Title and text of documents (m,), as models read them."""
        ...


def pair_scores(words: Words, terms: Any, documents: IntArray) -> FloatArray:
    """BM25 of each row of term weights for its own documents, (n, k); 0 where a document is negative."""
    n, k = documents.shape
    chosen = words.terms(np.maximum(documents, 0).ravel())
    repeated = terms[np.repeat(np.arange(n), k)]
    scores = np.asarray(chosen.multiply(repeated).sum(axis=1)).reshape(n, k)
    return np.where(documents >= 0, scores, 0.0).astype(np.float32)


def top_terms(words: Words, document: int, count: int) -> IntArray:
    """Up to ``count`` terms of a document, those that weigh most in it, as places in the vocabulary."""
    row = words.terms(np.array([document], dtype=DOCUMENT))
    return np.asarray(row.indices[np.argsort(-row.data, kind="stable")[:count]], dtype=np.int32)
