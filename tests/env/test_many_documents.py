"""Documents beyond number 2^31: rankings, judging and search graph are those of the same documents at the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.env.build import build_graph, obtain_graph
from searchrl.env.game import Game
from searchrl.reformulate.reformulator import FeedbackReformulator
from searchrl.retrieval.index import Index
from searchrl.retrieval.ranking import IntArray, Ranking
from searchrl.retrieval.retriever import Retriever
from tests.env.test_interrupted_build import Log, game_of, queries_of
from tests.tiny import retriever_of

BEFORE = 2**31 + 5
"""Documents that nobody looks at."""


class Behind(Sequence[str]):
    """A column of a corpus, far behind."""

    def __init__(self, column: Sequence[str]) -> None:
        self._column = column

    def __len__(self) -> int:
        return BEFORE + len(self._column)

    def __getitem__(self, index: Any) -> Any:
        return self._column[index - BEFORE]


class IndexBehind:
    """An index whose documents have numbers from ``BEFORE`` on."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def __len__(self) -> int:
        return len(self._index)  # whoever takes a sample takes the same

    def nearest(self, vectors: Any, k: int, exclude: IntArray) -> Ranking:
        return self._behind(self._index.nearest(vectors, k, self._before(exclude)))

    def lexical(self, terms: Any, k: int, exclude: IntArray) -> Ranking:
        return self._behind(self._index.lexical(terms, k, self._before(exclude)))

    def hybrid(self, queries: Any, k: int, exclude: IntArray) -> Ranking:
        return self._behind(self._index.hybrid(queries, k, self._before(exclude)))

    def terms(self, documents: IntArray) -> Any:
        return self._index.terms(self._before(documents))

    def vectors(self, documents: IntArray) -> Any:
        return self._index.vectors(self._before(documents))

    def _before(self, documents: IntArray) -> IntArray:
        return np.where(documents >= BEFORE, documents - BEFORE, documents)

    def _behind(self, ranking: Ranking) -> Ranking:
        return Ranking(behind(ranking.documents), ranking.scores)


def behind(documents: IntArray) -> IntArray:
    return np.where(documents >= 0, documents.astype(np.int64) + BEFORE, documents)


def moved(game: Game) -> Game:
    """The same game, its documents far behind."""
    front = game.corpus
    corpus = Corpus(Behind(front.ids), Behind(front.titles), Behind(front.texts))
    corpus.__dict__["position"] = {i: BEFORE + place for i, place in front.position.items()}
    corpus.__dict__["fingerprint"] = front.fingerprint
    old = retriever_of(front, share=0.5, depth=12)
    index: Any = IndexBehind(old.index)
    retriever = Retriever(old.encoder, index, 0.5, 12)
    return Game(corpus, retriever, FeedbackReformulator(index), game.reward_model, game.rules)


def test_a_search_graph(tmp_path: Path) -> None:
    queries = replace(queries_of(), own_document="none")
    game = game_of(Log())
    game.reformulator = FeedbackReformulator(game.retriever.index)
    front = build_graph(game, queries)
    for graph in (build_graph(moved(game), queries), obtain_graph(moved(game), queries, tmp_path)):
        for name in ("searched", "final", "pool"):
            np.testing.assert_array_equal(getattr(graph, name), behind(getattr(front, name)), err_msg=name)
        for name in ("features", "final_scores", "pool_scores", "result_vectors", "query_vectors", "reward_calls"):
            np.testing.assert_array_equal(getattr(graph, name), getattr(front, name), err_msg=name)
        for source, gains in front.gains.items():
            np.testing.assert_array_equal(graph.gains[source], gains)
    assert front.final.dtype == front.searched.dtype == front.pool.dtype == np.int32, "4 bytes where they do"
