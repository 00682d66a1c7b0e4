"""Who rewrites the query: the protocol, relevance feedback, and feedback and a language model together.

Relevance feedback: documents pull the query's vector to themselves or push it away (Rocchio 1971). Where a reward
model has judged them, what it approves pulls and what it rejects pushes, each as far as the reward model is sure; else
all of the last ranking's top documents count alike. NARROW leans towards meaning and moves away from what was not
wanted, BROADEN trusts words: it brings in the lexical leg. Both keep most of the current query: feedback that replaces
the query loses it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from searchrl.errors import ConfigError
from searchrl.retrieval.index import Index
from searchrl.retrieval.ranking import FloatArray, IntArray, Queries, Ranking, lengths, unit_rows

Direction = Literal["narrow", "broaden"]


@dataclass(frozen=True)
class Judged:
    """What the reward model has judged for n queries so far."""

    documents: IntArray
    """(n, k), each once; -1 for none."""
    gains: FloatArray
    """(n, k) in [0, 1]: probabilities of relevance where the reward model is calibrated; NaN where there is none."""


class Reformulator(Protocol):
    """Turns the current queries of a batch into new ones; it never searches."""

    @property
    def fingerprint(self) -> str:
        """Names method, settings, and the model and prompts behind it."""
        ...

    @property
    def lm_calls(self) -> int:
        """Language model calls that one query costs per reformulation."""
        ...

    def reformulate(
        self, direction: Direction, original: Queries, current: Queries, last: Ranking, judged: Judged | None = None
    ) -> Queries:
        """New queries, one for each of the n given.

        ``original`` is what the user asked, ``current`` what was searched last, ``last`` the ranking it gave,
        ``judged`` what the reward model said, if there is one. A query that cannot be rewritten comes back unchanged.
        """
        ...


@dataclass(frozen=True)
class LMAndFeedback:
    """Language model and relevance feedback together: rewrites twice from the same state and mixes the two results.

    ``lm_share`` is the language model's part in the new vector and terms. Raises ConfigError outside 0 to 1.
    """

    lm_reformulator: Reformulator
    feedback_reformulator: Reformulator
    lm_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.lm_share <= 1.0:
            raise ConfigError(f"lm_share {self.lm_share}: must lie between 0 and 1")

    @property
    def fingerprint(self) -> str:
        """Both parts and the share."""
        return f"both-1 {self.lm_share} [{self.lm_reformulator.fingerprint}] [{self.feedback_reformulator.fingerprint}]"

    @property
    def lm_calls(self) -> int:
        """What the two parts call together."""
        return self.lm_reformulator.lm_calls + self.feedback_reformulator.lm_calls

    def reformulate(
        self, direction: Direction, original: Queries, current: Queries, last: Ranking, judged: Judged | None = None
    ) -> Queries:
        """Text from the language model, vector and terms mixed, the larger share of the lexical leg."""
        written = self.lm_reformulator.reformulate(direction, original, current, last, judged)
        fed = self.feedback_reformulator.reformulate(direction, original, current, last, judged)
        return Queries(
            written.texts,
            mix_vectors(written.vectors, fed.vectors, self.lm_share),
            mix_terms(written.terms, fed.terms, self.lm_share),
            np.maximum(written.lexical, fed.lexical),
        )


def mix_vectors(first: FloatArray, second: FloatArray, share: float) -> FloatArray:
    """Rows on the way from ``second`` (share 0) to ``first`` (share 1), (n, dim), as long as the latter."""
    return lengths(first) * unit_rows(share * first + (1.0 - share) * second)


def mix_terms(first: Any, second: Any, share: float) -> Any:
    """Term weights, CSR (n, vocabulary): ``share`` of the first and the rest of the second."""
    from scipy import sparse

    mixed = sparse.csr_matrix(share * first + (1.0 - share) * second, dtype=np.float32)
    mixed.eliminate_zeros()
    return mixed


@dataclass(frozen=True)
class FeedbackSettings:
    """How one direction uses the last ranking."""

    documents: int
    """Top documents that give feedback."""
    vector_weight: float
    """How far the vector moves to their mean, below 1; negative: away from it."""
    lexical_target: float
    """Where the share of the lexical leg is pulled to: 0 dense, 1 lexical."""
    lexical_pull: float
    """How far it goes there, 0 to 1."""
    approved: float = 0.0
    """How far the vector moves to the mean of the judged documents, each by its gain, below 1."""
    rejected: float = 0.0
    """And how far away from their mean, each by what its gain lacks of 1."""


NARROW = FeedbackSettings(20, vector_weight=-0.6, lexical_target=0.0, lexical_pull=0.5, approved=0.2, rejected=0.5)
BROADEN = FeedbackSettings(10, vector_weight=0.3, lexical_target=1.0, lexical_pull=0.75, approved=0.3, rejected=0.0)


@dataclass(frozen=True)
class FeedbackReformulator:
    """Rewrites by relevance feedback; no language model is called."""

    index: Index
    narrow: FeedbackSettings = NARROW
    broaden: FeedbackSettings = BROADEN

    lm_calls = 0

    @property
    def fingerprint(self) -> str:
        """Method and settings."""
        return f"feedback-2 {asdict(self.narrow)} {asdict(self.broaden)}"

    def reformulate(
        self, direction: Direction, original: Queries, current: Queries, last: Ranking, judged: Judged | None = None
    ) -> Queries:
        """Move n queries' vectors and lexical shares; texts and terms stay as they are."""
        settings = self.narrow if direction == "narrow" else self.broaden
        vectors, index = current.vectors, self.index
        if judged is None:
            moved = move(vectors, index, last.documents[:, : settings.documents], settings.vector_weight)
        else:
            moved = move_by_gain(vectors, index, judged, settings.approved, settings.rejected)
        share = (1.0 - settings.lexical_pull) * current.lexical + settings.lexical_pull * settings.lexical_target
        return replace(
            current,
            vectors=moved,
            lexical=np.asarray(share, dtype=np.float32),
        )


def move(vectors: FloatArray, index: Index, documents: IntArray, weight: float) -> FloatArray:
    """Vectors moved by ``weight`` to the mean direction of their documents; a negative weight moves them away.

    They keep their length. Rows without documents stay.
    """
    mean, found = _mean(vectors, index, documents, (documents >= 0).astype(np.float32))
    return lengths(vectors) * unit_rows(np.where(found, (1.0 - weight) * vectors + weight * mean, vectors))


def move_by_gain(vectors: FloatArray, index: Index, judged: Judged, approved: float, rejected: float) -> FloatArray:
    """Vectors moved to the mean direction of the judged documents by gain, and away from that by lack of gain.

    They keep their length. Rows without judged documents stay.
    """
    known = ~np.isnan(judged.gains) & (judged.documents >= 0)
    gains = np.where(known, judged.gains, 0.0)
    good, found = _mean(vectors, index, judged.documents, gains)
    bad, _ = _mean(vectors, index, judged.documents, np.where(known, 1.0 - gains, 0.0))
    moved = np.where(found, (1.0 - approved) * vectors + approved * good, vectors) - rejected * bad
    return lengths(vectors) * unit_rows(moved)


def _mean(
    vectors: FloatArray, index: Index, documents: IntArray, weights: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Mean direction of (n, k) documents by their weights, as long as the vectors, and (n, 1) whether there is one."""
    near = index.vectors(np.maximum(documents, 0))
    total = weights.sum(axis=1, keepdims=True)
    mean = np.einsum("nk,nkd->nd", weights, near / lengths(near)) / np.where(total > 0, total, 1.0)
    return lengths(vectors) * mean.astype(np.float32), total > 0
