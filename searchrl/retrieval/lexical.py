"""BM25 over stemmed words, with weighted query terms and whole batches of queries at once.

bm25s (Lù 2024) builds the index: a sparse matrix of BM25 scores, a column a document, a row a term. Scoring is then
one sparse product, which also takes fractional term weights. What a term is in which script, ``searchrl.text`` says.
Words of one letter or digit (vitamin C, type 2) are terms that weigh ``LETTER_WEIGHT``.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.retrieval.ranking import FloatArray, IntArray
from searchrl.text import is_unspaced, terms
from searchrl.threads import lazy

K1, B = 0.9, 0.4
"""The settings BEIR's and Anserini's BM25 figures are published with."""

LETTER_WEIGHT = 0.15
"""Of a word of one letter or digit, beside 1 of any other: enough to tell vitamin C from vitamin D, and little enough
for nDCG@10 on scifact, cranfield and pydocs to stay what it is without them. They do not count in a document's length.
"""

_NAME = re.compile(r"(?<=[a-z] )A(?= |[.,;:?!)]|$)")
"""The letter, as in "vitamin A", and not the article: where no sentence begins."""


class _Terms(NamedTuple):
    words: list[str]
    """Stems, stop words left out."""
    letters: list[str]
    """Words of one letter or digit, each with a space behind it, which no stem has."""


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
        documents = [self._terms(corpus.full_text(i)) for i in range(len(corpus))]
        vocabulary = sorted({stem for words, _ in documents for stem in words}) or ["_"]  # no query has that word
        letters = sorted({letter for _, letters in documents for letter in letters})
        self.vocabulary: dict[str, int] = {term: i for i, term in enumerate([*vocabulary, *letters])}
        self.matrix: Any = sparse.csc_matrix((len(corpus), len(vocabulary)), dtype=np.float32)
        if any(words for words, _ in documents):
            ids = [[self.vocabulary[stem] for stem in words] for words, _ in documents]
            index = bm25s.BM25(k1=K1, b=B, method="lucene")
            index.index(
                (ids, {term: self.vocabulary[term] for term in vocabulary}),
                show_progress=False,
                create_empty_token=False,
            )
            parts = (index.scores["data"], index.scores["indices"], index.scores["indptr"])
            self.matrix = sparse.csc_matrix(parts, shape=self.matrix.shape, dtype=np.float32)
        if letters:
            self.matrix = sparse.hstack([self.matrix, _letter_scores(documents, letters)], "csc", dtype=np.float32)

    def _terms(self, text: str) -> _Terms:
        found = terms(text)
        words = [w for w in found if w not in self._stopwords and (len(w) > 1 or is_unspaced(w))]
        short = [w for w in found if len(w) == 1 and w not in self._stopwords and w.isalnum() and not is_unspaced(w)]
        stems: list[str] = self._stemmer.stemWords(words)
        return _Terms(stems, [f"{letter} " for letter in [*short, *_names(text)]])

    @lazy
    def _rows(self) -> Any:
        return self.matrix.tocsr()

    @lazy
    def _by_term(self) -> Any:
        return self.matrix.T.tocsr()

    def query_terms(self, texts: Sequence[str]) -> Any:
        """Term counts of each text over the vocabulary, CSR (len(texts), vocabulary); unknown words are left out."""
        from scipy import sparse

        known = [[self.vocabulary[t] for t in chain(*self._terms(text)) if t in self.vocabulary] for text in texts]
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


def _names(text: str) -> list[str]:
    return ["a"] * len(_NAME.findall(text))


def _letter_scores(documents: Sequence[_Terms], letters: Sequence[str]) -> Any:
    """``LETTER_WEIGHT`` times BM25 of words of one letter, (documents, letters); lengths are those in other words."""
    from scipy import sparse

    lengths = np.array([len(words) for words, _ in documents], dtype=np.float64)
    column = {letter: i for i, letter in enumerate(letters)}
    cells = [(row, column[w], n) for row, (_, found) in enumerate(documents) for w, n in Counter(found).items()]
    rows, columns, counts = np.array(cells).T
    frequency = np.bincount(columns, minlength=len(letters))
    idf = np.log1p((len(documents) - frequency + 0.5) / (frequency + 0.5))
    saturation = K1 * (1 - B + B * lengths[rows] / max(lengths.mean(), 1e-9))
    scores = LETTER_WEIGHT * idf[columns] * counts / (counts + saturation)
    return sparse.csc_matrix((scores.astype(np.float32), (rows, columns)), shape=(len(documents), len(letters)))
