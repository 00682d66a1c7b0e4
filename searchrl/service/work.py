"""What the models' thread does: each kind of work takes the items of all requests that ask for the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from searchrl.config import RetrieverName
from searchrl.models.language_model import FloatArray, LanguageModel
from searchrl.retrieval.dense import TextEncoder
from searchrl.retrieval.ranking import NO_DOCUMENT, Ranking
from searchrl.reward.reward_model import RewardModel
from searchrl.service.corpora import Collection


class Asked(NamedTuple):
    """One query, and how many documents it wants."""

    query: str
    k: int


class Found(NamedTuple):
    """One document of an answer."""

    key_id: str | int
    title: str
    key: str
    score: float


@dataclass(frozen=True)
class Answer:
    """What was found for one query."""

    keys: list[Found]
    steps: list[dict[str, Any]] = field(default_factory=list)
    """What the agent did; empty for a single pass."""


@dataclass(frozen=True)
class Embed:
    """Texts to unit vectors."""

    encoder: TextEncoder
    kind: Literal["query", "document"]

    def __call__(self, texts: Sequence[str]) -> Sequence[FloatArray]:
        """One vector (dim,) a text."""
        return list(self.encoder.encode(texts, kind=self.kind, show_progress=False, description=""))


@dataclass(frozen=True)
class Score:
    """(query, key) pairs to relevance."""

    reward: RewardModel

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """One score a pair."""
        scores = self.reward.score([query for query, _ in pairs], [key for _, key in pairs])
        return [float(score) for score in scores]


@dataclass(frozen=True)
class Generate:
    """Prompts to text."""

    lm: LanguageModel
    max_new_tokens: int
    temperature: float
    seed: int

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        """One text a prompt."""
        return self.lm.generate(
            prompts, max_new_tokens=self.max_new_tokens, temperature=self.temperature, seed=self.seed
        )


@dataclass(frozen=True)
class SinglePass:
    """Queries to the documents that one plain search of a corpus finds."""

    collection: Collection
    retriever: RetrieverName

    def __call__(self, asked: Sequence[Asked]) -> list[Answer]:
        """One answer a query."""
        search = self.collection.retriever(self.retriever, depth=max(a.k for a in asked))
        ranking = search.search(search.queries([a.query for a in asked]))
        return [Answer(found(self.collection, ranking.row(i), a.k)) for i, a in enumerate(asked)]


def found(collection: Collection, ranking: Ranking, k: int) -> list[Found]:
    """The first k documents of one ranking, (1, depth), with their texts."""
    documents, scores = ranking.documents[0, :k], ranking.scores[0, :k]
    texts = collection.documents.get(documents[documents != NO_DOCUMENT])
    return [
        Found(*texts[int(d)], float(s))
        for d, s in zip(documents, scores, strict=True)
        if d != NO_DOCUMENT and np.isfinite(s)
    ]
