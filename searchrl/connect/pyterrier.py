"""PyTerrier transformers: a collection that SearchRL searches, and a reward model that reranks.

``as_pyterrier(searcher) >> as_pyterrier(reward)`` is a pipeline like any other. No Java is needed.
"""

from __future__ import annotations

from searchrl.extras import needs
from searchrl.reward.reward_model import RewardModel, checked_scores
from searchrl.search.searcher import Searcher

with needs("pyterrier"):
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]
    import pyterrier as pt

FOUND = ("docno", "title", "text", "score", "rank")


class SearchRLRetriever(pt.Transformer):
    """qid, query -> qid, query, docno, title, text, score, rank; other columns stay. k: documents a query."""

    def __init__(self, searcher: Searcher, k: int = 100) -> None:
        super().__init__()
        self.searcher, self.k = searcher, k

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The documents of each query."""
        pt.validate.query_frame(inp, extra_columns=["query"])
        queries = inp.drop(columns=[name for name in FOUND if name in inp])
        answers = self.searcher.search(list(queries["query"]), self.k)
        places = [i for i, found in enumerate(answers) for _ in found]
        result = queries.iloc[places].reset_index(drop=True)
        documents = [document for found in answers for document in found]
        result["docno"] = pd.Series([document.key_id for document in documents], dtype=object)
        result["title"] = pd.Series([document.title for document in documents], dtype=object)
        result["text"] = pd.Series([document.key for document in documents], dtype=object)
        result["score"] = pd.Series([document.score for document in documents], dtype=float)
        result["rank"] = pd.Series([rank for found in answers for rank in range(len(found))], dtype=int)
        return result

    def fuse_rank_cutoff(self, k: int) -> SearchRLRetriever:
        """What ``retriever % k`` is: no more is searched for than is kept."""
        return self if k >= self.k else SearchRLRetriever(self.searcher, k)


class SearchRLReranker(pt.Transformer):
    """qid, query, docno, text -> the same, in the order of a reward model's scores; title counts where there is one."""

    def __init__(self, reward: RewardModel) -> None:
        super().__init__()
        self.reward = reward

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """New scores and ranks."""
        pt.validate.result_frame(inp, extra_columns=["query", "text"])
        texts = inp["text"].fillna("")
        if "title" in inp:
            texts = (inp["title"].fillna("") + " " + texts).str.strip()
        scores = checked_scores(self.reward, list(inp["query"]), list(texts)).tolist() if len(inp) else []
        return pt.model.add_ranks(inp.assign(score=pd.Series(scores, index=inp.index, dtype=float)))


def as_pyterrier(part: Searcher | RewardModel, k: int = 100) -> pt.Transformer:
    """A retriever of k documents a query, or, made of a reward model, a reranker."""
    return SearchRLRetriever(part, k) if isinstance(part, Searcher) else SearchRLReranker(part)
