"""LlamaIndex: a retriever over a collection that SearchRL searches, and a node postprocessor: a reward model."""

from __future__ import annotations

from typing import Any

from searchrl.extras import needs
from searchrl.reward.reward_model import RewardModel, checked_scores
from searchrl.search.searcher import Searcher

with needs("llamaindex"):
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.bridge.pydantic import Field
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode


class SearchRLRetriever(BaseRetriever):
    """The k best documents of a query, as nodes with the documents' ids."""

    def __init__(self, searcher: Searcher, k: int = 10) -> None:
        super().__init__()
        self.searcher, self.k = searcher, k

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [
            NodeWithScore(
                node=TextNode(
                    id_=str(document.key_id),
                    text=document.key or document.title,
                    metadata={"title": document.title} if document.title else {},
                ),
                score=float(document.score),
            )
            for document in self.searcher.search([query_bundle.query_str], self.k)[0]
        ]


class SearchRLPostprocessor(BaseNodePostprocessor):
    """Nodes in the order of a reward model's scores, the best ``top_n`` of them; None: all."""

    reward: Any = Field(exclude=True)
    """A ``RewardModel``."""
    top_n: int | None = None

    @classmethod
    def class_name(cls) -> str:
        """Its name in LlamaIndex's serialised form."""
        return "SearchRLPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("a query is needed to score nodes: give query_str or query_bundle")
        if not nodes:
            return []
        reward: RewardModel = self.reward
        texts = [one.node.get_content(metadata_mode=MetadataMode.NONE) for one in nodes]
        scores = checked_scores(reward, [query_bundle.query_str] * len(nodes), texts).tolist()
        order = sorted(range(len(nodes)), key=lambda i: -scores[i])
        return [NodeWithScore(node=nodes[i].node, score=scores[i]) for i in order[: self.top_n]]
