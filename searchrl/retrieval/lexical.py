"""BM25 over stemmed words, with weighted query terms and whole batches of queries at once.

bm25s (Lù 2024) builds the index: a sparse matrix of BM25 scores, a column a document, a row a term. Scoring is then
one sparse product, which also takes fractional term weights.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.retrieval.ranking import FloatArray, IntArray
from searchrl.threads import lazy

K1, B = 0.9, 0.4
"""The settings BEIR's and Anserini's BM25 figures are published with."""

_WORD = re.compile(r"(?u)\b\w\w+\b")


class LexicalIndex:
    """BM25 scores of every term in every document: (documents, vocabulary), k1 0.9, b 0.4, Snowball English stems.

    Lucene's form: log(1 + (N - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / mean length)).
    """

    def __init__(self, corpus: Corpus) -> None:
        import bm25s
        import Stemmer
        from bm25s.stopwords import STOPWORDS_EN
        from scipy import sparse

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG
        self._stemmer = Stemmer.Stemmer("english")
        self._stopwords = frozenset(STOPWORDS_EN)
        documents = [self._stems(corpus.full_text(i)) for i in range(len(corpus))]
        vocabulary = sorted({stem for stems in documents for stem in stems}) or ["_"]  # no query has that word
        self.vocabulary: dict[str, int] = {stem: i for i, stem in enumerate(vocabulary)}
        self.matrix: Any = sparse.csc_matrix((len(corpus), len(vocabulary)), dtype=np.float32)
        if any(documents):
            ids = [[self.vocabulary[stem] for stem in stems] for stems in documents]
            index = bm25s.BM25(k1=K1, b=B, method="lucene")
            index.index((ids, self.vocabulary), show_progress=False, create_empty_token=False)
            parts = (index.scores["data"], index.scores["indices"], index.scores["indptr"])
            self.matrix = sparse.csc_matrix(parts, shape=self.matrix.shape, dtype=np.float32)

    def _stems(self, text: str) -> list[str]:
        words = [w for w in _WORD.findall(text.lower()) if w not in self._stopwords]
        stems: list[str] = self._stemmer.stemWords(words)
        return stems

    @lazy
    def _rows(self) -> Any:
        return self.matrix.tocsr()

    @lazy
    def _by_term(self) -> Any:
        return self.matrix.T.tocsr()

    def query_terms(self, texts: Sequence[str]) -> Any:
        """Term counts of each text over the vocabulary, CSR (len(texts), vocabulary); unknown words are left out."""
        from scipy import sparse

        known = [[self.vocabulary[stem] for stem in self._stems(text) if stem in self.vocabulary] for text in texts]
        columns = [column for row in known for column in row]
        rows = np.repeat(np.arange(len(texts)), [len(row) for row in known])
        shape = (len(texts), len(self.vocabulary))
        counts = sparse.csr_matrix((np.ones(len(columns), np.float32), (rows, columns)), shape=shape)
        counts.sum_duplicates()
        return counts

    def scores(self, terms: Any) -> FloatArray:
        """BM25 of every document for each row of term weights, dense (n, documents)."""
        return np.asarray((terms @ self._by_term).toarray(), dtype=np.float32)

    def pair_scores(self, terms: Any, documents: IntArray) -> FloatArray:
        """BM25 of each row of term weights for its own documents, (n, k); 0 where a document index is negative."""
        n, k = documents.shape
        chosen = self._rows[np.maximum(documents, 0).ravel()]
        repeated = terms[np.repeat(np.arange(n), k)]
        scores = np.asarray(chosen.multiply(repeated).sum(axis=1)).reshape(n, k)
        return np.where(documents >= 0, scores, 0.0).astype(np.float32)

    def top_terms(self, document: int, count: int) -> IntArray:
        """Up to ``count`` terms of a document, those that weigh most in it, as places in the vocabulary."""
        row = self._rows[[document]]
        return np.asarray(row.indices[np.argsort(-row.data, kind="stable")[:count]], dtype=np.int32)
