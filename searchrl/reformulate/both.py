"""Language model and relevance feedback together: the words of the one, the evidence of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from searchrl.errors import ConfigError
from searchrl.reformulate.lm import mix_terms, mix_vectors
from searchrl.reformulate.reformulator import Direction, Reformulator
from searchrl.retrieval.ranking import Queries, Ranking


@dataclass(frozen=True)
class LMAndFeedback:
    """Rewrites twice from the same state and mixes the two results.

    ``lm_share`` is the language model's part in the new vector and terms. Raises ConfigError outside 0 to 1.
    """

    lm_reformulator: Reformulator
    feedback_reformulator: Reformulator
    lm_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.lm_share <= 1.0:
            raise ConfigError(f"lm_share is {self.lm_share}; it must be between 0 and 1")

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
