"""Who rewrites the query: the protocol behind relevance feedback and the language model, and both together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from searchrl.errors import ConfigError
from searchrl.retrieval.ranking import FloatArray, Queries, Ranking

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
