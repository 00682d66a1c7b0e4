"""BM25 over stemmed words, with weighted query terms and whole batches of queries at once.

bm25s (Lù 2024) builds the index: a sparse matrix of BM25 scores, a column a document, a row a term. Scoring is then
one sparse product, which also takes fractional term weights. What a term is in which script, ``searchrl.text`` says.
Words of one letter or digit (vitamin C, type 2) are terms that weigh ``LETTER_WEIGHT``.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchrl.data.dataset import Corpus
from searchrl.retrieval.analysis import Analyser, DocumentTerms, QueryTerms
from searchrl.retrieval.ranking import FloatArray, IntArray
from searchrl.threads import lazy

K1, B = 0.9, 0.4
"""The settings BEIR's and Anserini's BM25 figures are published with."""

LETTER_WEIGHT = 0.15
"""Of a word of one letter or digit, beside 1 of any other: enough to tell vitamin C from vitamin D, and little enough
for nDCG@10 on scifact, cranfield and pydocs to stay what it is without them. They do not count in a document's length.
"""


class LexicalIndex:
    """BM25 scores of every term in every document: (documents, vocabulary), k1 0.9, b 0.4, Snowball English stems.

    Lucene's form: log(1 + (N - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / mean length)).
    """

    def __init__(self, corpus: Corpus) -> None:
        import bm25s
        from scipy import sparse

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG
        self.corpus = corpus
        analyser = Analyser()
        documents = [analyser(text) for text in corpus.full_texts()]
        vocabulary = sorted({stem for words, _ in documents for stem in words}) or ["_"]  # no query has that word
        letters = sorted({letter for _, letters in documents for letter in letters})
        self.vocabulary: dict[str, int] = {term: i for i, term in enumerate([*vocabulary, *letters])}
        self._queries = QueryTerms(analyser, self.vocabulary)
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

    @lazy
    def idf(self) -> NDArray[np.float64]:
        """(vocabulary,) inverse document frequency of each term."""
        return idf(np.diff(self.matrix.indptr), self.matrix.shape[0])

    @lazy
    def _rows(self) -> Any:
        return self.matrix.tocsr()

    @lazy
    def _by_term(self) -> Any:
        return self.matrix.T.tocsr()

    def query_terms(self, texts: Sequence[str]) -> Any:
        """Term counts of each text over the vocabulary, CSR (len(texts), vocabulary); unknown words are left out."""
        return self._queries(texts)

    def terms(self, documents: IntArray) -> Any:
        """BM25 weights of every term of documents (m,), CSR (m, vocabulary)."""
        return self._rows[documents]

    def scores(self, terms: Any) -> FloatArray:
        """BM25 of every document for each row of term weights, dense (n, documents)."""
        return np.asarray((terms @ self._by_term).toarray(), dtype=np.float32)


def idf(frequencies: NDArray[np.integer[Any]], documents: int) -> NDArray[np.float64]:
    """Inverse document frequency of terms that so many of the documents contain, as BM25 has it."""
    return np.log1p((documents - frequencies + 0.5) / (frequencies + 0.5))


def _letter_scores(documents: Sequence[DocumentTerms], letters: Sequence[str]) -> Any:
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
