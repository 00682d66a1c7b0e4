"""The first stage of a search over many keys: those worth scoring, found by embedding or by way of their tags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.errors import ConfigError, DataError, nearest
from searchrl.retrieval.dense import DenseIndex, TextEncoder, build_dense_index
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, IntArray

RetrieverName = Literal["dense", "hybrid", "tagtree"]

HYBRID_SHARE = 0.5
"""Share of BM25 in a hybrid score."""

BEAM_WIDTH = 16
"""Clusters of tags that a query follows on each level of a tag tree."""


class CandidateFinder:
    """Finds the keys that embeddings, or embeddings and BM25 (``hybrid``), rank highest.

    ``tagtree`` ranks by embeddings, too, but only the keys that a query reaches by a walk down the tree of their tags,
    keyphrases here: about a tenth of them, at least twice as many as are asked for (see ``tagtree/retriever.py``).

    cache: folder where the keys' vectors are kept; None to encode them anew. The index of the keys searched last stays
    in memory. Raises ConfigError on an unknown retriever.
    """

    def __init__(self, encoder: Callable[[], TextEncoder], retriever: RetrieverName, cache: Path | None) -> None:
        if retriever not in get_args(RetrieverName):
            raise ConfigError(f"unknown retriever {retriever!r}: {nearest(str(retriever), get_args(RetrieverName))}")
        self._encoder, self._retriever, self._cache = encoder, retriever, cache
        self._keys = ""
        self._search: Callable[[Sequence[str], int], IntArray] | None = None

    def find(self, queries: Sequence[str], keys: Sequence[str], count: int, show_progress: bool) -> IntArray:
        """Indices of the ``count`` best keys for each query, best first, (n, count); count at most ``len(keys)``."""
        corpus = Corpus([str(i) for i in range(len(keys))], [""] * len(keys), keys)
        if self._search is None or corpus.fingerprint != self._keys:
            self._search = self._index(corpus, show_progress)
            self._keys = corpus.fingerprint
        return self._search(queries, count)

    def _index(self, corpus: Corpus, show_progress: bool) -> Callable[[Sequence[str], int], IntArray]:
        encoder = self._encoder()
        dense = build_dense_index(corpus, encoder, self._cache, show_progress)
        if self._retriever == "dense":
            return lambda queries, count: _dense(encoder, dense, queries, count)
        if self._retriever == "tagtree":
            return _tagtree(corpus, encoder, dense, self._cache)
        from searchrl.retrieval.lexical import LexicalIndex
        from searchrl.retrieval.retriever import Retriever

        lexical = LexicalIndex(corpus)

        def hybrid(queries: Sequence[str], count: int) -> IntArray:
            retriever = Retriever(encoder, dense, lexical, HYBRID_SHARE, count)
            return retriever.search(retriever.queries(queries)).documents

        return hybrid


def _tagtree(
    corpus: Corpus, encoder: TextEncoder, dense: DenseIndex, cache: Path | None
) -> Callable[[Sequence[str], int], IntArray]:
    from searchrl.retrieval.tagtree.build import as_corpus, keyphrase_tree
    from searchrl.retrieval.tagtree.retriever import TagTreeRetriever, candidates_for

    def embed(tags: Sequence[str]) -> FloatArray:
        return build_dense_index(as_corpus(tags), encoder, cache, show_progress=False).vectors

    try:
        tree = keyphrase_tree(corpus.texts, dense.vectors, embed)
    except DataError as error:
        raise DataError(f"retriever 'tagtree': {error}; or use retriever 'dense' or 'hybrid'") from error
    retriever = TagTreeRetriever(tree, dense.vectors)

    def search(queries: Sequence[str], count: int) -> IntArray:
        vectors = encoder.encode(queries, kind="query", show_progress=False, description="encode queries")
        anywhere = np.full(len(queries), NO_DOCUMENT, dtype=np.int32)
        scored = candidates_for(count, len(corpus))
        found = retriever.search(vectors, count, anywhere, beam_width=BEAM_WIDTH, candidates=scored)
        return found.ranking.documents

    return search


def _dense(encoder: TextEncoder, dense: DenseIndex, queries: Sequence[str], count: int) -> IntArray:
    vectors = encoder.encode(queries, kind="query", show_progress=False, description="encode queries")
    return dense.search(vectors, count, np.full(len(queries), NO_DOCUMENT, dtype=np.int32)).documents
