"""BM25's numbers for a corpus that is read as a stream, twice: once to count, once to weigh, block by block.

The weights are bit for bit those of ``LexicalIndex``, which needs all documents in memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchrl.retrieval.analysis import Analyser
from searchrl.retrieval.lexical import K1, LETTER_WEIGHT, B, idf
from searchrl.threads import lazy


@dataclass(frozen=True)
class TermStatistics:
    """What BM25 has to know of a whole corpus."""

    documents: int
    mean_length: float
    """Of documents, in words; those of one letter do not count."""
    words: Sequence[str]
    letters: Sequence[str]
    frequencies: NDArray[np.int64]
    """Documents that have each word, and then each letter."""

    @lazy
    def vocabulary(self) -> dict[str, int]:
        """Term -> column."""
        return {term: i for i, term in enumerate([*self.words, *self.letters])}

    @lazy
    def idf(self) -> NDArray[np.float64]:
        """(vocabulary,) inverse document frequency."""
        return idf(self.frequencies, self.documents)

    @lazy
    def _word_idf(self) -> NDArray[np.float32]:
        """As bm25s rounds it."""
        n = self.documents
        found = [math.log(1 + (n - df + 0.5) / (df + 0.5)) for df in self.frequencies[: len(self.words)].tolist()]
        return np.array(found, dtype=np.float32)

    def weights(self, analyser: Analyser, texts: Sequence[str]) -> Any:
        """BM25 weights of every term of some documents of the corpus, CSR (len(texts), vocabulary) float32."""
        from scipy import sparse

        starts, columns, values = [0], [], []
        for text in texts:
            found = analyser(text)
            words = sorted((self.vocabulary[term], n) for term, n in Counter(found.words).items())
            letters = sorted((self.vocabulary[term], n) for term, n in Counter(found.letters).items())
            columns += [column for column, _ in (*words, *letters)]
            values += [self._of_words(words, len(found.words)), self._of_letters(letters, len(found.words))]
            starts.append(len(columns))
        data = np.concatenate(values) if values else np.zeros(0, dtype=np.float32)
        return sparse.csr_matrix((data, columns, starts), shape=(len(texts), len(self.vocabulary)), dtype=np.float32)

    def _of_words(self, found: Sequence[tuple[int, int]], length: int) -> NDArray[np.float32]:
        if not found:
            return np.zeros(0, dtype=np.float32)
        columns, counts = np.array(found).T
        tf = counts.astype(np.float32).astype(np.float64)
        saturation = K1 * ((1 - B) + B * length / self.mean_length)
        return np.asarray(self._word_idf[columns] * (tf / (saturation + tf)), dtype=np.float32)

    def _of_letters(self, found: Sequence[tuple[int, int]], length: int) -> NDArray[np.float32]:
        if not found:
            return np.zeros(0, dtype=np.float32)
        columns, counts = np.array(found).T
        saturation = K1 * (1 - B + B * length / max(self.mean_length, 1e-9))
        return np.asarray(LETTER_WEIGHT * self.idf[columns] * counts / (counts + saturation), dtype=np.float32)


def count_terms(analyser: Analyser, texts: Iterable[str]) -> TermStatistics:
    """Go through a corpus once. Takes memory for its vocabulary alone."""
    words: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    documents = length = 0
    for text in texts:
        found = analyser(text)
        words.update(set(found.words))
        letters.update(set(found.letters))
        documents, length = documents + 1, length + len(found.words)
    named = sorted(words) or ["_"]  # no query has that word
    single = sorted(letters)
    frequencies = np.array([*(words[term] for term in named), *(letters[term] for term in single)], dtype=np.int64)
    return TermStatistics(documents, length / max(documents, 1), named, single, frequencies)
