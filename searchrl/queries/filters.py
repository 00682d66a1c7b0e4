"""What search and reward model say of drafts: whether they lead back to their documents, and how hard that is.

Round-trip consistency (Alberti et al. 2019; for retrieval, Dai et al. 2022, Promptagator): a question that does not
lead back to its source teaches a searcher nothing. The search is lenient, so that hard questions stay; whether the
source really is the answer, the reward model decides against the best of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.data.query_bank import QueryType
from searchrl.queries.cleaning import LEAST_TERMS, OTHERS, ROUND_TRIP, Reason
from searchrl.queries.writing import Draft
from searchrl.retrieval.ranking import NO_DOCUMENT, IntArray
from searchrl.retrieval.retriever import Retriever
from searchrl.reward.gain import Judgments
from searchrl.reward.reward_model import RewardModel

DENSE, LEXICAL = 0.0, 1.0


@dataclass(frozen=True)
class Verdict:
    """Of one draft. ``difficulty``: nDCG@10 of one plain dense search, its sources being what is relevant."""

    reason: Reason | None
    difficulty: float


@dataclass(frozen=True)
class Filters:
    """A search over the corpus, and a reward model; None leaves its part out."""

    corpus: Corpus
    retriever: Retriever
    reward_model: RewardModel | None

    def __call__(self, kind: QueryType, drafts: Sequence[Draft]) -> list[Verdict]:
        """A verdict for each draft; the reward model, which is slow, sees only what the searches let through."""
        if not drafts:
            return []
        fresh = self.retriever.queries([draft.text for draft in drafts], DENSE)
        dense = self.retriever.search(fresh).documents
        reasons: list[Reason | None] = [
            "vague"
            if terms < LEAST_TERMS
            else None
            if set(draft.source) <= set(row[:ROUND_TRIP].tolist())
            else "not found"
            for draft, row, terms in zip(drafts, dense, fresh.terms.getnnz(axis=1), strict=True)
        ]
        rivals = dense
        if kind == "adversarial":
            again = self.retriever.queries(fresh.texts, LEXICAL, fresh.vectors)
            lexical = self.retriever.search(again).documents
            for i, (draft, row) in enumerate(zip(drafts, lexical, strict=True)):
                if reasons[i] is None and row[0] in draft.source:
                    reasons[i] = "found by its words"
            rivals = np.concatenate([lexical[:, : OTHERS + 1], dense], axis=1)
        good = [i for i, reason in enumerate(reasons) if reason is None]
        for i, wins in zip(good, self._wins([drafts[i] for i in good], rivals[good]), strict=True):
            reasons[i] = None if wins else "judged lower"
        difficulty = self._difficulty(drafts, dense)
        return [Verdict(reason, round(value, 6)) for reason, value in zip(reasons, difficulty, strict=True)]

    def _wins(self, drafts: Sequence[Draft], rivals: IntArray) -> list[bool]:
        """Whether the reward model likes all sources of a draft better than the first few rivals that are none."""
        if self.reward_model is None or not drafts:
            return [True] * len(drafts)
        others = [_first_others(draft, row.tolist()) for draft, row in zip(drafts, rivals, strict=True)]
        pairs = [
            (draft.text, document)
            for draft, other in zip(drafts, others, strict=True)
            for document in (*draft.source, *other)
        ]
        scores = iter(
            self.reward_model.score([q for q, _ in pairs], [self.corpus.full_text(d) for _, d in pairs]).tolist()
        )
        wins = []
        for draft, other in zip(drafts, others, strict=True):
            own = [next(scores) for _ in draft.source]
            wins.append(min(own) > max((next(scores) for _ in other), default=-np.inf))
        return wins

    def _difficulty(self, drafts: Sequence[Draft], dense: IntArray) -> Sequence[float]:
        ids = [f"draft {i}" for i in range(len(drafts))]  # with a space, so no document's id
        relevant = [{self.corpus.ids[document]: 1 for document in draft.source} for draft in drafts]
        texts = [draft.text for draft in drafts]
        judgments = Judgments(QuerySet(ids, texts, dict(zip(ids, relevant, strict=True))), self.corpus)
        return [float(value) for value in judgments.gain(dense, 10)]


def _first_others(draft: Draft, rivals: Sequence[int]) -> list[int]:
    distinct = dict.fromkeys(d for d in rivals if d != NO_DOCUMENT and d not in draft.source)
    return list(distinct)[:OTHERS]
