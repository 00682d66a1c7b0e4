from __future__ import annotations

import asyncio

import pytest

from searchrl.search.searcher import Searcher
from tests.small_models import OverlapReward

pytest.importorskip("llama_index.core", reason="needs the extra 'llamaindex'")
pytestmark = pytest.mark.filterwarnings("default")  # LlamaIndex's own


def test_nodes_have_the_documents_ids_also_for_many_at_once(searcher: Searcher, question: str) -> None:
    from searchrl.connect.llamaindex import SearchRLRetriever

    retriever = SearchRLRetriever(searcher, k=4)
    wanted = [d.key_id for d in searcher.search([question], 4)[0]]
    assert [n.node.node_id for n in retriever.retrieve(question)] == wanted

    async def several() -> list[list[str]]:
        answers = await asyncio.gather(*(retriever.aretrieve(question) for _ in range(4)))
        return [[n.node.node_id for n in nodes] for nodes in answers]

    assert asyncio.run(several()) == [wanted] * 4


def test_the_query_engine_uses_the_retriever(searcher: Searcher, question: str) -> None:
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine

    from searchrl.connect.llamaindex import SearchRLPostprocessor, SearchRLRetriever

    engine = RetrieverQueryEngine.from_args(
        SearchRLRetriever(searcher, k=4),
        llm=MockLLM(),
        node_postprocessors=[SearchRLPostprocessor(reward=OverlapReward(), top_n=2)],
    )
    sources = engine.query(question).source_nodes
    assert len(sources) == 2
    assert sources[0].score >= sources[1].score


def test_the_postprocessor_scores_copies_and_needs_a_query() -> None:
    from llama_index.core.schema import NodeWithScore, TextNode

    from searchrl.connect.llamaindex import SearchRLPostprocessor

    nodes = [NodeWithScore(node=TextNode(text=t, id_=t), score=0.5) for t in ("bread", "open a socket")]
    one = SearchRLPostprocessor(reward=OverlapReward())
    result = one.postprocess_nodes(nodes, query_str="open a socket")
    assert [(n.node.node_id, n.score) for n in result] == [("open a socket", 1.0), ("bread", 0.0)]
    assert [n.score for n in nodes] == [0.5, 0.5]
    assert one.postprocess_nodes([], query_str="open") == []
    assert one.class_name() == "SearchRLPostprocessor"
    assert one.to_dict()["top_n"] is None
    with pytest.raises(ValueError, match="query"):
        one.postprocess_nodes(nodes)
