"""The index of a corpus in Milvus: what is there, or made there now."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from searchrl.config import IndexConfig
from searchrl.data.dataset import Corpus
from searchrl.retrieval.dense import TextEncoder, build_dense_index, encode_texts
from searchrl.retrieval.milvus.facts import beside, read_facts
from searchrl.retrieval.milvus.index import MilvusIndex
from searchrl.retrieval.milvus.ingest import Vectors, collection_name, ingest
from searchrl.retrieval.milvus.server import Kind, Server
from searchrl.retrieval.ranking import FloatArray

STREAM_ABOVE = 100_000
"""Vectors of so many documents are taken from the index of this machine, bit for bit; of more, they are encoded block
by block on their way to Milvus, and stand nowhere else."""


def open_index(
    corpus: Corpus,
    encoder: TextEncoder,
    vectors: Callable[[], Vectors],
    config: IndexConfig,
    large: bool = False,
    show_progress: bool = False,
) -> MilvusIndex:
    """A corpus in Milvus, brought there if need be. vectors: called where it is. large: vectors are searched
    approximately.

    Raises what ``Server`` and ``ingest`` raise.
    """
    server = Server(config)
    kind: Kind = "HNSW" if large else "FLAT"
    alias = f"searchrl_{hashlib.sha256(f'{corpus.fingerprint} {encoder.fingerprint}'.encode()).hexdigest()[:16]}"
    collection = collection_name(alias, corpus.fingerprint, encoder.fingerprint, kind)
    if server.target(alias) != collection:
        ingest(
            server,
            alias,
            "",
            corpus,
            vectors(),
            encoder=encoder.fingerprint,
            dim=encoder.dim,
            kind=kind,
            show_progress=show_progress,
        )
    for name in (collection, beside(collection)):
        server.load(name)
    return MilvusIndex(server, collection, read_facts(server, collection))


def vectors_of(corpus: Corpus, encoder: TextEncoder, cache: Path | None, show_progress: bool) -> Vectors:
    """The vectors of a corpus, a block at a time."""
    if len(corpus) <= STREAM_ABOVE:
        stored = build_dense_index(corpus, encoder, cache, show_progress).vectors
        return lambda places: stored[places.start : places.stop]

    def encode(places: range) -> FloatArray:
        return encode_texts(encoder, corpus.full_texts()[places.start : places.stop], "document")

    return encode
