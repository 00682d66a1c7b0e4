"""Scores as probabilities of relevance, and the file that says how a fitted model scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.errors import ModelError
from searchrl.reward.calibrated import CalibratedReward, Calibration, Recipe, read_recipe
from tests.small_models import OverlapReward


def test_the_map_that_made_the_judgments_is_found_again() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=4000)
    truth = Calibration(2.0, -1.0)
    fitted = Calibration.fit(scores, random.random(4000) < truth.probability(scores))
    assert fitted is not None
    assert (fitted.slope, fitted.offset) == pytest.approx((truth.slope, truth.offset), abs=0.2)
    assert Calibration.fit(scores, np.ones(4000)) is None, "where all are relevant there is nothing to fit"


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.floats(0.01, 10), st.floats(-10, 10))
def test_probabilities_keep_the_order(scores: list[float], slope: float, offset: float) -> None:
    probabilities = Calibration(slope, offset).probability(scores)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (np.diff(probabilities[np.argsort(scores)]) >= 0).all()


def test_a_calibrated_reward_is_absolute_and_another_one() -> None:
    plain = OverlapReward()
    reward = CalibratedReward(plain, Calibration(3.0, -1.0))
    queries, documents = ["a b", "a b"], ["a b c", "d"]
    assert reward.absolute
    assert reward.fingerprint != plain.fingerprint
    expected = 1 / (1 + np.exp(-(3.0 * plain.score(queries, documents) - 1.0)))
    np.testing.assert_allclose(reward.score(queries, documents), expected, rtol=1e-6)


def test_a_recipe_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_recipe(tmp_path) is None
    for recipe in (Recipe("pmi", 80, Calibration(1.5, -2.0)), Recipe("head", None, None)):
        recipe.write(tmp_path)
        assert read_recipe(tmp_path) == recipe
    for damaged in ("{", "[]", "{}", '{"scorer": "pmi", "max_key_words": 1, "calibration": {"slope": "x"}}'):
        (tmp_path / "reward.json").write_text(damaged)
        with pytest.raises(ModelError, match=r"reward\.json is damaged"):
            read_recipe(tmp_path)
