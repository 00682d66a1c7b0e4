from __future__ import annotations

import unittest

import pytest

from searchrl.search.searcher import Searcher
from tests.small_models import OverlapReward

pt = pytest.importorskip("pyterrier", reason="needs the extra 'pyterrier'")
pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.filterwarnings("default")  # PyTerrier's own, and pandas' about it


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PT_TEST_TRANSFORMER_REPORTS", "0")


@pytest.mark.parametrize("kind", ["retriever", "reranker"])
def test_pyterriers_own_conformance_suite_passes(kind: str, searcher: Searcher) -> None:
    from pyterrier.testing import transformer_test_class

    from searchrl.connect.pyterrier import as_pyterrier

    transformer = as_pyterrier(searcher if kind == "retriever" else OverlapReward())
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(transformer_test_class(lambda: transformer))
    result = unittest.TestResult()
    suite.run(result)
    found = [text for _, text in result.errors + result.failures if "URLError" not in text]  # it looks for links
    assert not found, found[0]
    assert result.testsRun


def test_a_pipeline_searches_reranks_and_is_measured(searcher: Searcher) -> None:
    from searchrl.connect.pyterrier import as_pyterrier

    queries = searcher.dataset.splits["test"]
    topics = pd.DataFrame({"qid": list(queries.ids), "query": list(queries.texts), "mine": 7})
    rows = [(q, d, grade) for q, judged in queries.qrels.items() for d, grade in judged.items()]
    qrels = pd.DataFrame(rows, columns=["qid", "docno", "label"])
    retriever = as_pyterrier(searcher, k=20)
    table = pt.Experiment([retriever, retriever >> as_pyterrier(OverlapReward())], topics, qrels, ["ndcg_cut_10"])
    assert table["ndcg_cut_10"].iloc[0] > 0.3
    found = (retriever % 3)(topics)
    assert set(found["mine"]) == {7}
    assert found.groupby("qid").size().eq(3).all()
    assert list(found["docno"][:3]) == [d.key_id for d in searcher.search([queries.texts[0]], 3)[0]]


def test_the_reranker_orders_by_the_reward_model_and_leaves_its_input_alone() -> None:
    from searchrl.connect.pyterrier import as_pyterrier

    given = pd.DataFrame(
        {
            "qid": "1",
            "query": "open a socket",
            "docno": ["a", "b"],
            "text": ["bread", "a socket"],
            "score": [2.0, 1.0],
            "rank": [0, 1],
        }
    )
    before = given.copy()
    result = as_pyterrier(OverlapReward())(given).sort_values("rank")
    assert list(result["docno"]) == ["b", "a"]
    assert given.equals(before)
