"""Who picks the better of two documents for a query, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from searchrl.fitting.query_recs import shown
from searchrl.models.language_model import FloatArray, LanguageModel
from searchrl.reward.reward_model import RewardModel

PROMPT = (
    "Query: {query}\n\nPassage 1: {first}\n\nPassage 2: {second}\n\n"
    "Which passage answers the query better? Answer with 1 or 2."
)
CHOICES = ("1", "2")


@dataclass(frozen=True)
class Comparison:
    """Two documents of one query, by their places in a record's ``keys``."""

    record: int
    first: int
    second: int
    side: int
    """1 where the first is the document that the query was written from, -1 where the second is, else 0."""


def comparisons(keys: Sequence[int], own: Sequence[int | None], own_only: bool) -> list[Comparison]:
    """Every pair of each record's documents; with ``own_only``, pairs with the query's own document where there is one.

    keys: how many documents each record has. own: the place of its own, or None.
    """
    found = []
    for record, (count, place) in enumerate(zip(keys, own, strict=True)):
        for first, second in combinations(range(count), 2):
            if not own_only or place is None or place in (first, second):
                found.append(Comparison(record, first, second, (first == place) - (second == place)))
    return found


def by_scores(reward_model: RewardModel, queries: Sequence[str], pairs: Sequence[tuple[str, str]]) -> FloatArray:
    """Margins, (n,): score of the first document minus that of the second, by a pointwise judge."""
    distinct = list(dict.fromkeys((q, d) for q, pair in zip(queries, pairs, strict=True) for d in pair))
    scores = reward_model.score([q for q, _ in distinct], [d for _, d in distinct])
    at = dict(zip(distinct, scores, strict=True))
    margins = [at[q, first] - at[q, second] for q, (first, second) in zip(queries, pairs, strict=True)]
    return np.array(margins, dtype=np.float32)


def by_comparison(lm: LanguageModel, queries: Sequence[str], pairs: Sequence[tuple[str, str]]) -> FloatArray:
    """Margins, (n,), in [-1, 1]: probability that the first document is the better one, minus that of the second.

    Each pair is asked about in both orders and averaged: models prefer a place (Wang et al. 2023, "Large language
    models are not fair evaluators").
    """
    prompts = []
    for query, (first, second) in zip(queries, pairs, strict=True):
        prompts.append(PROMPT.format(query=query, first=shown(first), second=shown(second)))
        prompts.append(PROMPT.format(query=query, first=shown(second), second=shown(first)))
    one = np.exp(lm.choice_logprobs(prompts, CHOICES)[:, 0]).reshape(-1, 2)
    return np.asarray(one[:, 0] - one[:, 1], dtype=np.float32)
