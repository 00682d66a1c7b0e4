"""Who says how relevant a document is: the protocol behind the causal LM and the reward head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from searchrl.models.language_model import FloatArray


class RewardModel(Protocol):
    """Scores (query, document) pairs; higher is more relevant. The scale is the method's own: see ``gain.py``."""

    @property
    def fingerprint(self) -> str:
        """Names model, method and prompt: two reward models that may score differently differ here."""
        ...

    @property
    def absolute(self) -> bool:
        """Whether scores lie in [0, 1] and mean the same for every query; if not, compare within a query's pool."""
        ...

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """Raw scores, shape (n,), of the n pairs (queries[i], documents[i])."""
        ...
