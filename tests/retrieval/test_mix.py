"""Mixing first-stage and reward scores: by hand, and what must hold of any scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.errors import ConfigError
from searchrl.retrieval.fusion import Normalisation, mix
from searchrl.retrieval.ranking import NO_DOCUMENT, Ranking
from tests.tiny import ranking_of

NORMALISATIONS: list[Normalisation] = ["minmax", "zscore"]


def test_z_scores_by_hand() -> None:
    ranking = ranking_of([(7, 0.9), (3, 0.8), (5, 0.7), (1, 0.4), (2, 0.3)])
    after = mix(ranking, np.array([[-5.0, -3.0, -4.0]], dtype=np.float32), 0.4, "zscore")
    z = 1.5**0.5  # three equally spaced values have z-scores -z, 0, z
    assert after.documents.tolist() == [[3, 7, 5, 1, 2]]
    top = [0.4 * z, 0.6 * z - 0.4 * z, -0.6 * z]
    unit = 0.1 / z  # what one deviation of the judged scores is
    rest = [-z - (0.7 - score) / unit for score in (0.4, 0.3)]  # as far below the last as they were, in both parts
    assert after.scores[0] == pytest.approx([*top, *rest], abs=1e-4)


def test_minmax_by_hand() -> None:
    ranking = ranking_of([(7, 0.9), (3, 0.8), (5, 0.7), (1, 0.4), (2, 0.3)])
    after = mix(ranking, np.array([[-5.0, -3.0, np.nan]], dtype=np.float32), 0.4)
    # 7 and 3 are judged: their scores 1 and 0, their rewards 0 and 1; the others count as unrewarded, and below.
    assert after.documents.tolist() == [[7, 3, 5, 1, 2]]
    assert after.scores[0] == pytest.approx([0.6, 0.4, -1.0, -4.0, -5.0], abs=1e-5)


def test_judged_documents_anywhere_in_the_ranking() -> None:
    ranking = ranking_of([(7, 0.9), (3, 0.8), (5, 0.7), (1, 0.4)])
    after = mix(ranking, np.array([[np.nan, 0.1, np.nan, 0.9]], dtype=np.float32), 0.5)
    # Scaled by 3 and 1: the scores are 1.25, 1, .75, 0; rewards 0 of 3, 1 of 1, and 0, the least, of the others.
    assert after.documents.tolist() == [[7, 3, 1, 5]]
    assert after.scores[0] == pytest.approx([0.625, 0.5, 0.5, 0.375], abs=1e-5)


def test_nothing_judged() -> None:
    ranking = ranking_of([(7, 0.9), (3, 0.8)])
    after = mix(ranking, np.full((1, 2), np.nan, dtype=np.float32), 0.5)
    assert after.documents.tolist() == [[7, 3]]


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_list_shorter_than_the_top(normalisation: Normalisation) -> None:
    ranking = ranking_of([(7, 0.9), (3, 0.8)], [(4, 0.5), (6, 0.4), (8, 0.2), (9, 0.1)])
    reward = np.array([[0.0, 1.0, np.nan], [0.0, 1.0, 2.0]], dtype=np.float32)
    after = mix(ranking, reward, 1.0, normalisation)
    assert after.documents.tolist() == [[3, 7, NO_DOCUMENT, NO_DOCUMENT], [8, 6, 4, 9]]
    assert np.isneginf(after.scores[0, 2:]).all()


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_outside_its_range(weight: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        mix(ranking_of([(0, 1.0)]), np.zeros((1, 1), dtype=np.float32), weight, "zscore")


@st.composite
def cases(draw: st.DrawFn) -> tuple[Ranking, np.ndarray]:
    """A ranking with ties, and rewards of its top; quarters are exact in float32."""
    quarters = st.integers(-40, 40).map(lambda i: i / 4)
    scores = sorted(draw(st.lists(quarters, min_size=1, max_size=9)), reverse=True)
    documents = draw(st.permutations(range(len(scores))))
    reward = draw(st.lists(quarters, min_size=1, max_size=len(scores)))
    return ranking_of(list(zip(documents, scores, strict=True))), np.array([reward], dtype=np.float32)


@given(case=cases(), weight=st.sampled_from([0.0, 0.25, 0.5, 1.0]), normalisation=st.sampled_from(NORMALISATIONS))
def test_what_must_hold(case: tuple[Ranking, np.ndarray], weight: float, normalisation: Normalisation) -> None:
    ranking, reward = case
    k, before = reward.shape[1], ranking.documents[0].tolist()
    after = mix(ranking, reward, weight, normalisation)
    documents = after.documents[0].tolist()
    assert sorted(documents[:k]) == sorted(before[:k]), "the top is reordered among itself"
    assert documents[k:] == before[k:], "the rest stays in its order, below the top"
    assert (np.diff(after.scores[0]) <= 0).all()
    if weight == 0.0:
        assert documents == before
    if weight == 1.0:
        by_reward = sorted(range(k), key=lambda i: -reward[0, i])  # stable, as the ranking was
        assert documents[:k] == [before[i] for i in by_reward]
    scaled = mix(Ranking(ranking.documents, ranking.scores * 4 + 1), reward * 8 - 2, weight, normalisation)
    np.testing.assert_allclose(scaled.scores[0, :k], after.scores[0, :k], atol=1e-4)
