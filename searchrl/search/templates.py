"""A reward model in front of which queries and keys are put into words of the user's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from searchrl.errors import ConfigError
from searchrl.models.language_model import FloatArray
from searchrl.reward.reward_model import RewardModel

QUERY, KEY = "{query}", "{key}"


@dataclass(frozen=True)
class TemplatedReward:
    """Scores ``query_template`` and ``key_template``, filled in, with another reward model.

    ``{query}`` and ``{key}`` stand for the texts; any other brace is a brace. Raises ConfigError where one is missing.
    """

    reward: RewardModel
    query_template: str = QUERY
    key_template: str = KEY

    def __post_init__(self) -> None:
        for name, place in (("query_template", QUERY), ("key_template", KEY)):
            template = getattr(self, name)
            if place not in template:
                raise ConfigError(f"{name} {template!r} has no place for the text: write {place} where it goes")

    @property
    def fingerprint(self) -> str:
        """The reward model's, with the templates."""
        templates = json.dumps([self.query_template, self.key_template])
        return f"{self.reward.fingerprint} {hashlib.sha256(templates.encode()).hexdigest()[:16]}"

    @property
    def absolute(self) -> bool:
        """The reward model's own."""
        return self.reward.absolute

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """See ``RewardModel.score``."""
        return self.reward.score(
            [self.query_template.replace(QUERY, query) for query in queries],
            [self.key_template.replace(KEY, document) for document in documents],
        )
