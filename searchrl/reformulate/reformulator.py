"""Who rewrites the query: the protocol, relevance feedback, and feedback and a language model together.

Relevance feedback: the last ranking's top documents pull the query to themselves or push it away (Rocchio 1971). In the
vector, the query moves along the line through the documents' mean; in the words, the documents' weightiest terms can
join it (RM3, Abdul-Jaleel et al. 2004). NARROW leans towards meaning and narrows the query to what the documents found
do not say yet: it moves away from them. BROADEN trusts words: it brings in the lexical leg, evidence of another kind.
Both keep most of the current query: feedback that replaces the query loses it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from searchrl.errors import ConfigError
from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.ranking import FloatArray, IntArray, Queries, Ranking

Direction = Literal["narrow", "broaden"]


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

    def reformulate(self, direction: Direction, original: Queries, current: Queries, last: Ranking) -> Queries:
        """New queries, one for each of the n given.

        ``original`` is what the user asked, ``current`` what was searched last, ``last`` the ranking it gave. A query
        that cannot be rewritten comes back unchanged.
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

    def reformulate(self, direction: Direction, original: Queries, current: Queries, last: Ranking) -> Queries:
        """Text from the language model, vector and terms mixed, the larger share of the lexical leg."""
        written = self.lm_reformulator.reformulate(direction, original, current, last)
        fed = self.feedback_reformulator.reformulate(direction, original, current, last)
        return Queries(
            written.texts,
            mix_vectors(written.vectors, fed.vectors, self.lm_share),
            mix_terms(written.terms, fed.terms, self.lm_share),
            np.maximum(written.lexical, fed.lexical),
        )


def mix_vectors(first: FloatArray, second: FloatArray, share: float) -> FloatArray:
    """Unit rows on the way from ``second`` (share 0) to ``first`` (share 1), (n, dim)."""
    mixed = share * first + (1.0 - share) * second
    return np.asarray(mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12), dtype=np.float32)


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
    terms: int
    """Words added."""
    term_weight: float
    """Their total weight, as a share of the new query's words, 0 to 1."""
    lexical_target: float
    """Where the share of the lexical leg is pulled to: 0 dense, 1 lexical."""
    lexical_pull: float
    """How far it goes there, 0 to 1."""


NARROW = FeedbackSettings(20, vector_weight=-0.6, terms=0, term_weight=0.0, lexical_target=0.0, lexical_pull=0.5)
BROADEN = FeedbackSettings(10, vector_weight=0.3, terms=0, term_weight=0.0, lexical_target=1.0, lexical_pull=0.75)


@dataclass(frozen=True)
class FeedbackReformulator:
    """Rewrites by relevance feedback; no language model is called."""

    dense: DenseIndex
    lexical: LexicalIndex
    narrow: FeedbackSettings = field(default=NARROW)
    broaden: FeedbackSettings = field(default=BROADEN)

    lm_calls = 0

    @property
    def fingerprint(self) -> str:
        """Method and settings."""
        return f"feedback-1 {asdict(self.narrow)} {asdict(self.broaden)}"

    def reformulate(self, direction: Direction, original: Queries, current: Queries, last: Ranking) -> Queries:
        """Move n queries towards their last rankings; texts stay as they are, added words weigh in the terms only."""
        settings = self.narrow if direction == "narrow" else self.broaden
        documents = last.documents[:, : settings.documents]
        words = self.lexical.feedback_terms(documents, settings.terms)
        return Queries(
            current.texts,
            move(current.vectors, self.dense.vectors, documents, settings.vector_weight),
            add_terms(current.terms, words, settings.term_weight),
            pull(current.lexical, settings.lexical_target, settings.lexical_pull),
        )


def pull(share: FloatArray, target: float, strength: float) -> FloatArray:
    """Lexical shares (n,) moved part of the way to a target."""
    return np.asarray((1.0 - strength) * share + strength * target, dtype=np.float32)


def move(vectors: FloatArray, index: FloatArray, documents: IntArray, weight: float) -> FloatArray:
    """Unit vectors moved by ``weight`` to the mean of their documents' vectors; a negative weight moves them away.

    Rows without documents stay.
    """
    present = (documents >= 0)[:, :, None]
    found = np.where(present, index[np.maximum(documents, 0)], 0.0)
    mean = found.sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    moved = np.where(present.any(axis=1), (1.0 - weight) * vectors + weight * mean, vectors)
    return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def add_terms(current: Any, added: Any, weight: float) -> Any:
    """Term weights (CSR) of the current query, scaled, plus those added, keeping the row's total weight.

    A row without words of its own takes what is added as part of a total of 1.
    """
    from scipy import sparse

    totals = np.asarray(current.sum(axis=1)).ravel()
    gains = np.where(np.asarray(added.sum(axis=1)).ravel() > 0, weight, 0.0)
    keep = sparse.diags_array((1.0 - gains).astype(np.float32))
    join = sparse.diags_array((gains * np.maximum(totals, 1.0)).astype(np.float32))
    return sparse.csr_matrix(keep @ current + join @ added, dtype=np.float32)
