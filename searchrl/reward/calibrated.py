"""A reward model's scores as probabilities of relevance that mean the same for every query and collection.

A fitted model's folder holds ``reward.json``: how it scores, and the logistic map from its score to a probability,
fitted on queries it was not trained on (Platt 1999, "Probabilistic outputs for support vector machines").
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from searchrl.errors import ModelError, reason
from searchrl.files import write_text
from searchrl.retrieval.ranking import FloatArray
from searchrl.reward.reward_model import RewardModel

FILE = "reward.json"


@dataclass(frozen=True)
class Calibration:
    """The probability of relevance is ``1 / (1 + exp(-(slope * score + offset)))``."""

    slope: float
    offset: float

    @classmethod
    def fit(cls, scores: ArrayLike, relevant: ArrayLike) -> Calibration | None:
        """The most likely map for (n,) scores and whether each pair is relevant; None where all are alike."""
        from sklearn.linear_model import LogisticRegression

        truth = np.asarray(relevant, dtype=bool)
        if truth.all() or not truth.any():
            return None
        model = LogisticRegression(C=1e6).fit(np.asarray(scores, dtype=np.float64)[:, None], truth)
        return cls(float(model.coef_[0, 0]), float(model.intercept_[0]))

    def probability(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of relevance, of the shape of ``scores``."""
        from scipy.special import expit

        return np.asarray(expit(self.slope * np.asarray(scores, dtype=np.float64) + self.offset))


@dataclass(frozen=True)
class Recipe:
    """How a fitted model scores."""

    scorer: str
    max_key_words: int | None
    calibration: Calibration | None

    def write(self, folder: Path) -> None:
        """Write it into a model's folder."""
        write_text(folder / FILE, json.dumps(asdict(self), indent=1) + "\n")


def read_recipe(folder: Path) -> Recipe | None:
    """What a model's folder says of how it scores; None where it says nothing. Raises ModelError on a damaged file."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        numbers = content["calibration"]
        calibration = None if numbers is None else Calibration(float(numbers["slope"]), float(numbers["offset"]))
        words = content["max_key_words"]
        return Recipe(str(content["scorer"]), None if words is None else int(words), calibration)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} is damaged ({reason(error)}): fit the model anew") from error


@dataclass(frozen=True)
class CalibratedReward:
    """Implements ``RewardModel``: another's scores as probabilities."""

    reward: RewardModel
    calibration: Calibration

    absolute = True

    @property
    def fingerprint(self) -> str:
        """The reward model's, and the map."""
        return f"{self.reward.fingerprint} calibrated {self.calibration.slope} {self.calibration.offset}"

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """Probabilities of relevance of the n pairs (queries[i], documents[i]), (n,)."""
        return self.calibration.probability(self.reward.score(queries, documents)).astype(np.float32)
