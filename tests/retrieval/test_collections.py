"""BM25 on real collections gives the figures that are known for it. The dense vectors are of no consequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from searchrl.data.load import load_dataset
from searchrl.data.own_document import own_document
from searchrl.evaluation.measures import evaluate_ranking
from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.memory import MemoryIndex
from searchrl.retrieval.ranking import Queries
from searchrl.retrieval.retriever import Retriever
from searchrl.reward.gain import Judgments
from tests.tiny import WordEncoder

pytestmark = pytest.mark.collections


@pytest.mark.parametrize(("name", "expected", "tolerance"), [("scifact", 0.676, 0.005), ("cranfield", 0.343, 0.01)])
def test_bm25_reaches_its_known_ndcg(collections: Path, name: str, expected: float, tolerance: float) -> None:
    if not (collections / name / "corpus.jsonl").is_file():
        pytest.skip(f"{name} is not among the collections")
    dataset = load_dataset(str(collections / name))
    corpus, queries = dataset.corpus, dataset.splits["test"]
    n = len(queries)
    lexical = LexicalIndex(corpus)
    retriever = Retriever(
        WordEncoder(), MemoryIndex(DenseIndex(np.zeros((len(corpus), 1), np.float32)), lexical), 1.0, depth=100
    )
    asked = Queries(queries.texts, np.zeros((n, 1), np.float32), lexical.query_terms(queries.texts), np.ones(n, "f4"))
    found = retriever.search(asked, own_document(queries, corpus))
    ndcg = evaluate_ranking(found, queries, corpus.ids)["nDCG@10"]
    assert ndcg.mean() == pytest.approx(expected, abs=tolerance)
    np.testing.assert_allclose(Judgments(queries, corpus).gain(found.documents), ndcg, atol=1e-6)
