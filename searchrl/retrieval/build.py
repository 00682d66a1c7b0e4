"""A corpus's index, of the kind that is asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from searchrl.config import IndexConfig
from searchrl.data.dataset import Corpus
from searchrl.retrieval.dense import DenseIndex, TextEncoder, build_dense_index
from searchrl.retrieval.index import Index
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.memory import MemoryIndex
from searchrl.retrieval.ranking import FloatArray


def build_index(
    corpus: Corpus,
    encoder: TextEncoder,
    cache: Path | None,
    indexing: IndexConfig,
    ann_above: int = 0,
    show_progress: bool = False,
) -> Index:
    """Index a corpus, or open what was stored for this very corpus and encoder.

    cache: where vectors are kept. ann_above: larger corpora are searched approximately where vectors alone decide; 0:
    never, but for index ``faiss``. Raises ConfigError where an extra is missing, OutputError where the cache cannot be
    written, EngineError where a server does not answer.
    """
    large = 0 < ann_above < len(corpus)
    if indexing.index == "milvus":
        from searchrl.retrieval.milvus.open import open_index, vectors_of

        found = partial(vectors_of, corpus, encoder, cache, show_progress)
        return open_index(corpus, encoder, found, indexing, large, show_progress)
    if not large and indexing.index == "memory":
        return MemoryIndex(build_dense_index(corpus, encoder, cache, show_progress), LexicalIndex(corpus))
    from searchrl.retrieval.approximate import FaissIndex, build_approximate_index, import_faiss

    import_faiss()  # what is missing is said before hours of encoding
    dense = build_dense_index(corpus, encoder, cache, show_progress)
    return FaissIndex(dense, LexicalIndex(corpus), build_approximate_index(corpus, encoder, dense, cache))


def index_of(corpus: Corpus, encoder: TextEncoder, vectors: FloatArray, indexing: IndexConfig) -> Index:
    """Index a corpus whose vectors (documents, dim) are at hand. Raises what ``build_index`` raises."""
    if indexing.index == "milvus":
        from searchrl.retrieval.milvus.open import open_index

        return open_index(corpus, encoder, lambda: lambda places: vectors[places.start : places.stop], indexing)
    dense = DenseIndex(vectors)
    if indexing.index == "faiss":
        from searchrl.retrieval.approximate import FaissIndex, build_approximate_index

        return FaissIndex(dense, LexicalIndex(corpus), build_approximate_index(corpus, encoder, dense, None))
    return MemoryIndex(dense, LexicalIndex(corpus))
