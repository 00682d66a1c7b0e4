"""From a text to the terms that BM25 counts: stems, stop words left out, and words of one letter apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from searchrl.text import is_unspaced, terms

_NAME = re.compile(r"(?<=[a-z] )A(?= |[.,;:?!)]|$)")
"""The letter, as in "vitamin A", and not the article: where no sentence begins."""


class DocumentTerms(NamedTuple):
    """What a text says, in its order."""

    words: list[str]
    """Stems, stop words left out."""
    letters: list[str]
    """Words of one letter or digit, each with a space behind it, which no stem has."""


class Analyser:
    """Finds the terms of a text: Snowball's English stems; what a word is in which script, ``searchrl.text`` says."""

    def __init__(self) -> None:
        import Stemmer
        from bm25s.stopwords import STOPWORDS_EN

        self._stemmer = Stemmer.Stemmer("english")
        self._stopwords = frozenset(STOPWORDS_EN)

    def __call__(self, text: str) -> DocumentTerms:
        """The terms of one text."""
        found = terms(text)
        words = [w for w in found if w not in self._stopwords and (len(w) > 1 or is_unspaced(w))]
        short = [w for w in found if len(w) == 1 and w not in self._stopwords and w.isalnum() and not is_unspaced(w)]
        names = ["a"] * len(_NAME.findall(text))
        return DocumentTerms(self._stemmer.stemWords(words), [f"{letter} " for letter in [*short, *names]])


class QueryTerms:
    """Counts the terms of queries over a vocabulary: term -> column."""

    def __init__(self, analyser: Analyser, vocabulary: Mapping[str, int]) -> None:
        self._analyser, self._vocabulary = analyser, vocabulary

    def __call__(self, texts: Sequence[str]) -> Any:
        """Term counts of each text, CSR (len(texts), vocabulary); unknown words are left out."""
        from scipy import sparse

        vocabulary = self._vocabulary
        known = [[vocabulary[t] for t in chain(*self._analyser(text)) if t in vocabulary] for text in texts]
        columns = [column for row in known for column in row]
        rows = np.repeat(np.arange(len(texts)), [len(row) for row in known])
        shape = (len(texts), len(vocabulary))
        counts = sparse.csr_matrix((np.ones(len(columns), np.float32), (rows, columns)), shape=shape)
        counts.sum_duplicates()
        return counts
