"""A query's ranking is the same bits alone as in any batch, on every instruction set, with one thread and with two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.device import FORMAT_VARIABLE, cpu_has_int8
from searchrl.retrieval.dense import DenseIndex, pair_products, row_products
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.memory import MemoryIndex
from searchrl.retrieval.ranking import Queries
from searchrl.retrieval.retriever import Retriever
from tests.command import REPOSITORY
from tests.formats import instruction_sets
from tests.tiny import WordEncoder, corpus_of

WORDS = "red green blue apple stone river cloud metal paper glass tiger piano lemon chair table".split()
DIM = 96


def retriever_of(seed: int, size: int) -> Retriever:
    """Vectors with near and exact duplicates, the last bits of whose products decide their order."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(size, DIM)).astype(np.float32)
    vectors[size // 2 :] = vectors[: size - size // 2] * np.float32(1 + 1e-7)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    corpus = corpus_of(*(" ".join(random.choice(WORDS, 4)) for _ in range(size)))
    return Retriever(WordEncoder(), MemoryIndex(DenseIndex(vectors), LexicalIndex(corpus)), 0.0, depth=min(20, size))


def queries_of(retriever: Retriever, seed: int, count: int) -> Queries:
    random = np.random.default_rng(seed + 1)
    vectors = random.normal(size=(count, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = [" ".join(random.choice(WORDS, 3)) for _ in range(count)]
    shares = random.choice(np.array([0.0, 0.25, 0.5, 1.0], dtype=np.float32), count)
    return Queries(texts, vectors, retriever.index.words.query_terms(texts), shares)


def part(queries: Queries, rows: slice) -> Queries:
    return Queries(queries.texts[rows], queries.vectors[rows], queries.terms[rows], queries.lexical[rows])


@given(seed=st.integers(0, 999), size=st.integers(1, 300), batch=st.integers(1, 64), excluded=st.booleans())
def test_alone_as_in_company(seed: int, size: int, batch: int, excluded: bool) -> None:
    retriever = retriever_of(seed, size)
    queries = queries_of(retriever, seed, 64)
    own = np.random.default_rng(seed).integers(-1, size, 64).astype(np.int32)
    exclude = own if excluded else None
    together = retriever.search(queries, exclude)
    for start in range(0, 64, batch):
        rows = slice(start, start + batch)
        found = retriever.search(part(queries, rows), None if exclude is None else exclude[rows])
        np.testing.assert_array_equal(found.documents, together.documents[rows])
        np.testing.assert_array_equal(found.scores, together.scores[rows])


@given(seed=st.integers(0, 999), size=st.integers(1, 200))
def test_what_is_returned_is_the_best_by_pair_products(seed: int, size: int) -> None:
    retriever = retriever_of(seed, size)
    queries = queries_of(retriever, seed, 3)
    found = retriever.index.dense.search(queries.vectors, 10, np.full(3, -1, np.int32))
    for row in range(3):
        exact = row_products(queries.vectors[row], retriever.index.dense.vectors)
        best = np.lexsort((np.arange(size), -exact))[:10]
        assert found.documents[row][: len(best)].tolist() == best.tolist()
        pairs = pair_products(
            queries.vectors[row : row + 1], retriever.index.dense.vectors, best[None].astype(np.int32)
        )
        np.testing.assert_array_equal(pairs[0], exact[best])


PLAY = """
import sys, numpy as np, torch
from threadpoolctl import threadpool_limits
from searchrl.data.dataset import Corpus
from searchrl.data.load import load_dataset
from searchrl.models.encoder import Encoder
from searchrl.retrieval.dense import build_dense_index
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.memory import MemoryIndex
from searchrl.retrieval.retriever import Retriever
from searchrl.reformulate.reformulator import FeedbackReformulator
from searchrl.env.game import Game, Rules
from searchrl.env.tree import Action

dataset = load_dataset(sys.argv[1])
texts = [text for queries in dataset.splits.values() for text in queries.texts][:6]
corpus = Corpus(*(part[::5] for part in (dataset.corpus.ids, dataset.corpus.titles, dataset.corpus.texts)))
nobody = np.full(len(texts), -1, np.int32)

def play(game, texts):
    rankings = []
    for way in ((0, 1, 0), (0, 2, 0)):
        at = game.start(texts)
        for action in way:
            at = game.advance(at, Action(action), nobody[: len(texts)])
        rankings += [*at.rankings, game.final_ranking(at, None)]
    return [(r.documents, r.scores) for r in rankings]

for dtype in sys.argv[2].split(","):
    encoder = Encoder(dtype=dtype)
    dense, lexical = build_dense_index(corpus, encoder, None, False), LexicalIndex(corpus)
    index = MemoryIndex(dense, lexical)
    game = Game(corpus, Retriever(encoder, index, 0.0, 50), FeedbackReformulator(index), None, Rules(fusion="rrf"))
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with threadpool_limits(threads):
            together = play(game, texts)
            for batch in (1, 4):
                for start in range(0, len(texts), batch):
                    rows = slice(start, start + batch)
                    for (documents, scores), (d, s) in zip(play(game, texts[rows]), together, strict=True):
                        assert (documents == d[rows]).all(), (dtype, threads, batch, start)
                        assert (scores == s[rows]).all(), (dtype, threads, batch, start)
print("same")
"""


@pytest.mark.parametrize("level", ["lowest", "avx2", "highest"])
def test_alone_as_in_company_on_every_instruction_set(small_folder: Path, level: str) -> None:
    """Queries encoded, searched, narrowed and broadened with the embedded encoder."""
    sets = instruction_sets()
    if level not in sets:
        pytest.skip(f"this processor has nothing above {level}")
    dtypes = "float32" if level == "lowest" else "float32,int8" if level == "avx2" else "float32,int8,bfloat16"
    if not cpu_has_int8("cpu"):
        dtypes = "float32"
    done = subprocess.run(
        [sys.executable, "-c", PLAY, str(small_folder), dtypes],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={k: v for k, v in os.environ.items() if k != FORMAT_VARIABLE} | sets[level],
        check=False,
    )
    assert done.stdout == "same\n", done.stderr[-2000:]
