"""LangChain: a retriever over a collection that SearchRL searches, and a document compressor: a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from searchrl.extras import needs
from searchrl.reward.reward_model import RewardModel, checked_scores
from searchrl.search.searcher import Searcher

with needs("langchain"):
    from langchain_core.callbacks import CallbackManagerForRetrieverRun, Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import ConfigDict


class SearchRLRetriever(BaseRetriever):
    """The k best documents of a query; ``invoke(query, k=...)`` asks for another number."""

    searcher: Searcher
    k: int = 10

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return [
            Document(
                document.key or document.title,
                id=str(document.key_id),
                metadata={"id": str(document.key_id), "title": document.title, "score": float(document.score)},
            )
            for document in self.searcher.search([query], k or self.k)[0]
        ]


class SearchRLCompressor(BaseDocumentCompressor):
    """Documents in the order of a reward model's scores, the best ``top_n`` of them; None: all."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    reward: Any
    """A ``RewardModel``."""
    top_n: int | None = None

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Copies with ``metadata["relevance_score"]``, best first."""
        if not documents:
            return []
        reward: RewardModel = self.reward
        scores = checked_scores(reward, [query] * len(documents), [one.page_content for one in documents]).tolist()
        order = sorted(range(len(documents)), key=lambda i: -scores[i])
        return [
            documents[i].model_copy(update={"metadata": {**documents[i].metadata, "relevance_score": scores[i]}})
            for i in order[: self.top_n]
        ]
