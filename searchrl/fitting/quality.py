"""How well a reward model keeps the preferences of lists that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from searchrl.evaluation.reward_quality import reward_quality
from searchrl.fitting.preference_lists import PreferenceList
from searchrl.reward.reward_model import RewardModel


@dataclass(frozen=True)
class PreferenceQuality:
    """Agreement with preferences: .5 is chance throughout. NaN where undefined."""

    accuracy: float
    """Share of all (better, worse) pairs that the scores order so; equal scores count half."""
    auc: float
    """Chance that what is best in a list outscores what is not, over all lists together."""
    auc_within: float
    """The same within a group (a query), averaged over groups."""
    margin: float
    """Mean difference of scores, better minus worse."""
    lists: int
    pairs: int

    def __str__(self) -> str:
        counts = f"{self.pairs} pairs in {self.lists} lists"
        return f"accuracy {self.accuracy:.3f}, AUC {self.auc:.3f} ({self.auc_within:.3f} within a query; {counts})"

    def as_metrics(self) -> dict[str, float]:
        """For logs: the names that TRL gives them, ``eval_accuracy`` and so on."""
        return {f"eval_{name}": value for name, value in asdict(self).items() if name not in ("lists", "pairs")}


def preference_quality(reward_model: RewardModel, lists: Sequence[PreferenceList]) -> PreferenceQuality:
    """Score every distinct (query, document) of the lists once, in one call, and compare. At least one list."""
    distinct = list(dict.fromkeys(p for one in lists for p in zip(one.queries, one.documents, strict=True)))
    scores = reward_model.score([query for query, _ in distinct], [document for _, document in distinct])
    score_of = dict(zip(distinct, scores.astype(np.float64).tolist(), strict=True))
    differences = []
    pools: dict[str, dict[tuple[str, str], bool]] = {}
    for one in lists:
        members = list(zip(one.queries, one.documents, strict=True))
        values = [score_of[member] for member in members]
        differences += [values[i] - values[j] for i, j in one.pairs]
        best = max(one.levels)
        pool = pools.setdefault(one.group, {})
        for member, level in zip(members, one.levels, strict=True):
            pool[member] = pool.get(member, False) or level == best
    width = max(len(pool) for pool in pools.values())
    matrix, relevant = np.full((len(pools), width), np.nan), np.zeros((len(pools), width))
    for row, pool in enumerate(pools.values()):
        matrix[row, : len(pool)] = [score_of[member] for member in pool]
        relevant[row, : len(pool)] = list(pool.values())
    judged = reward_quality(matrix, relevant)
    gaps = np.array(differences)
    accuracy = float((gaps > 0).mean() + (gaps == 0).mean() / 2)
    return PreferenceQuality(accuracy, judged.auc, judged.auc_within, float(gaps.mean()), len(lists), len(gaps))
