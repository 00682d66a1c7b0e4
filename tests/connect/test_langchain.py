from __future__ import annotations

import pytest

from searchrl.search.searcher import Searcher
from tests.small_models import OverlapReward

pytest.importorskip("langchain_core", reason="needs the extra 'langchain'")
pytestmark = pytest.mark.filterwarnings("default")  # LangChain's own


def test_the_retriever_gives_documents_with_id_title_and_score(searcher: Searcher, question: str) -> None:
    from searchrl.connect.langchain import SearchRLRetriever

    retriever = SearchRLRetriever(searcher=searcher, k=4)
    found = retriever.invoke(question)
    assert [d.id for d in found] == [d.key_id for d in searcher.search([question], 4)[0]]
    assert all(d.page_content and d.metadata["title"] for d in found)
    assert len(retriever.invoke(question, k=2)) == 2
    assert [[d.id for d in one] for one in retriever.batch([question] * 4)] == [[d.id for d in found]] * 4


def test_the_compressor_gives_scored_copies_best_first() -> None:
    from langchain_core.documents import Document

    from searchrl.connect.langchain import SearchRLCompressor

    documents = [Document("bread", metadata={"n": 0}), Document("open a socket", metadata={"n": 1})]
    before = [d.model_copy(deep=True) for d in documents]
    compressor = SearchRLCompressor(reward=OverlapReward())
    result = compressor.compress_documents(documents, "open a socket")
    assert [(d.metadata["n"], d.metadata["relevance_score"]) for d in result] == [(1, 1.0), (0, 0.0)]
    assert documents == before
    assert compressor.compress_documents([], "open") == []
    assert len(SearchRLCompressor(reward=OverlapReward(), top_n=1).compress_documents(documents, "open")) == 1
