"""Sections: the retriever, encoding, and search by size of the corpus, over corpora made up where only size matters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from benchmarks import naive
from benchmarks.measure import Figure, in_turn, once, seconds
from benchmarks.session import Session
from searchrl.data.dataset import Corpus, QuerySet
from searchrl.device import rng
from searchrl.retrieval.dense import DenseIndex, TextEncoder
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.memory import MemoryIndex
from searchrl.retrieval.ranking import FloatArray, IntArray
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
    return Retriever(encoder, MemoryIndex(DenseIndex(unit_vectors(n, encoder.dim, seed)), lexical), 0.0, depth)


def synthetic_queries(corpus: Corpus, n: int, seed: int) -> QuerySet:
    """n queries without judgments: a few words in a row from random documents of a real corpus."""
    source = rng(seed, "synthetic queries", n)
    texts = []
    for i in source.integers(0, len(corpus), n):
        words = corpus.full_text(int(i)).split() or ["nothing"]
        start = int(source.integers(0, max(1, len(words) - QUERY_WORDS)))
        texts.append(" ".join(words[start : start + QUERY_WORDS]))
    return QuerySet([f"synthetic {i}" for i in range(n)], texts)


ROUNDS = 5
"""Of searches, which are short."""
ONE_BY_ONE = 20
"""Queries searched one at a time."""
MANY = 200_000
"""Documents from which on a quarter of the queries is enough."""
SCORES_AT_ONCE = 1 << 25
"""That a bare product holds: 128 MB."""


def retriever(session: Session) -> list[Figure]:
    """Loading the encoder, the indexes, and searching one query at a time, as a person does."""
    bench, corpus = session.bench, session.bench.dataset.corpus
    _, named = once(lambda: bench.encoder.fingerprint)
    _, loaded = once(lambda: bench.encoder.encode(["what loads the model"]))
    found, indexes_took = once(lambda: bench.retriever)
    _, lexical_took = once(lambda: LexicalIndex(corpus))
    session.rates |= {"name encoder": named, "load encoder": loaded, "build indexes": lexical_took}
    texts = session.queries.texts[:ONE_BY_ONE]
    whole = seconds(lambda: [found.search(found.queries([text])) for text in texts], repeats=3)
    encoded = found.queries(texts)
    alone = seconds(lambda: [found.search(encoded.row(i)) for i in range(len(texts))], repeats=3)
    together = seconds(lambda: found.search(encoded), repeats=3)
    name = "retriever"
    return [
        Figure(name, "load the encoder, its library included", loaded, "s"),
        Figure(name, "load (or build) the dense index and build BM25", indexes_took, "s"),
        Figure(name, "of that, BM25", lexical_took, "s"),
        Figure(name, "encode and search, one query at a time", 1000 * whole / len(texts), "ms/query"),
        Figure(name, "search, one query at a time", 1000 * alone / len(texts), "ms/query"),
        Figure(name, f"search, {len(texts)} queries at once", 1000 * together / len(texts), "ms/query"),
    ]


def encoding(session: Session) -> list[Figure]:
    """Documents to vectors, against ``SentenceTransformer.encode`` at its defaults on the same texts."""
    encoder, plain, corpus = session.bench.encoder, session.naive_encoder, session.bench.dataset.corpus
    lengths = np.array([len(corpus.titles[i]) + len(corpus.texts[i]) for i in range(len(corpus))])
    samples = [[corpus.full_text(int(i)) for i in s] for s in session.samples(lengths, session.sizes.encoded, "encode")]

    def ours(number: int) -> float:
        encoder.encode(samples[number], kind="document", show_progress=False, description="")
        return len(samples[number])

    def plainly(number: int) -> float:
        plain.encode(samples[number])
        return len(samples[number])

    encoder.encode(samples[0][:8])
    plain.encode(samples[0][:8])
    pace = in_turn(session.sizes.rounds, naive=plainly, ours=ours)
    session.rates["documents encoded"] = pace["ours"].rate()
    what = f"documents of this corpus, {len(samples[0])} at a time"
    return [Figure("encoding", what, pace["ours"].rate(), "documents/s", pace["naive"].rate())]


def search_by_size(session: Session) -> list[Figure]:
    """Dense search over synthetic vectors, against one query at a time, and against the bare product and top-k."""
    return [figure for size in session.sizes.corpora for figure in _search(session, size)]


def _search(session: Session, size: int) -> list[Figure]:
    encoder, depth = session.bench.encoder, session.bench.game_config.depth
    found = synthetic_retriever(encoder, size, depth, session.seed)
    vectors = found.index.vectors(np.arange(len(found.index), dtype=np.int32))
    count = session.sizes.searched if size < MANY else session.sizes.searched // 4
    queries = replace(found.queries([""] * count), vectors=unit_vectors(count, encoder.dim, session.seed + 1))

    def ours(_: int) -> float:
        found.search(queries)
        return count

    def plainly(_: int) -> float:
        for query in queries.vectors[:8]:
            naive.search(vectors, query, depth)
        return 8.0

    def bare_numpy(_: int) -> float:
        bare_search_numpy(vectors, queries.vectors, depth)
        return count

    def bare_torch(_: int) -> float:
        bare_search_torch(vectors, queries.vectors, depth)
        return count

    ours(0)
    pace = in_turn(ROUNDS, naive=plainly, numpy=bare_numpy, torch=bare_torch, ours=ours)
    ms = {way: 1000 * pace[way].each for way in pace}
    bare = min(ms["numpy"], ms["torch"])
    name, what = "dense search, synthetic vectors", f"{size:,} x {encoder.dim}"
    return [
        Figure(name, f"{what}, {count} queries at once", ms["ours"], "ms/query", ms["naive"]),
        Figure(name, f"{what}, time over that of the bare product and top-k", ms["ours"] / bare, "times"),
        Figure(name, f"{what}, vectors in memory", vectors.nbytes / 2**20, "MB"),
    ]


def bare_search_numpy(vectors: FloatArray, queries: FloatArray, depth: int) -> IntArray:
    """What exact search cannot do without: a matrix product and the best ``depth`` of each row, (n, depth)."""
    found = []
    for start in range(0, len(queries), step := _rows(vectors)):
        scores = queries[start : start + step] @ vectors.T
        best = np.argpartition(scores, -depth, axis=1)[:, -depth:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        found.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(found).astype(np.int32)


def bare_search_torch(vectors: FloatArray, queries: FloatArray, depth: int) -> IntArray:
    """The same by torch, which is faster on some machines."""
    matrix, wanted = torch.from_numpy(vectors), torch.from_numpy(queries)
    found = [torch.topk(block @ matrix.T, depth).indices for block in torch.split(wanted, _rows(vectors))]
    return torch.cat(found).numpy().astype(np.int32)


def _rows(vectors: FloatArray) -> int:
    return max(1, SCORES_AT_ONCE // len(vectors))
