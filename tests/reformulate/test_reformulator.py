from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import sparse

from searchrl.errors import ConfigError
from searchrl.reformulate.reformulator import Direction, Judged, LMAndFeedback
from searchrl.retrieval.ranking import Queries, Ranking

NOW = Queries(["now"], np.eye(3, dtype=np.float32)[:1], sparse.csr_matrix([[1.0, 0, 0]]), np.zeros(1, np.float32))
LAST = Ranking(np.zeros((1, 1), np.int32), np.ones((1, 1), np.float32))


@dataclass(frozen=True)
class Fixed:
    """Always rewrites to one place."""

    text: str
    place: int
    lexical: float
    lm_calls: int = 0

    @property
    def fingerprint(self) -> str:
        return f"fixed {self.text}"

    def reformulate(
        self, direction: Direction, original: Queries, current: Queries, last: Ranking, judged: Judged | None = None
    ) -> Queries:
        assert (original, current, last) == (NOW, NOW, LAST)
        row = np.eye(3, dtype=np.float32)[[self.place]]
        share = self.lexical if direction == "broaden" else 0.0
        return Queries([self.text], row, sparse.csr_matrix(row), np.array([share], np.float32))


LM, FEEDBACK = Fixed("written", 1, 0.5, lm_calls=1), Fixed("now", 2, 0.3)


def test_text_from_the_model_and_the_rest_mixed() -> None:
    new = LMAndFeedback(LM, FEEDBACK, lm_share=0.25).reformulate("broaden", NOW, NOW, LAST)
    assert new.texts == ["written"]
    np.testing.assert_allclose(new.vectors, np.array([[0, 0.25, 0.75]]) / np.hypot(0.25, 0.75), rtol=1e-6)
    np.testing.assert_allclose(new.terms.toarray(), [[0, 0.25, 0.75]])
    np.testing.assert_allclose(new.lexical, [0.5])


@pytest.mark.parametrize(("share", "place"), [(1.0, 1), (0.0, 2)])
def test_at_the_ends_one_part_decides(share: float, place: int) -> None:
    new = LMAndFeedback(LM, FEEDBACK, share).reformulate("narrow", NOW, NOW, LAST)
    np.testing.assert_allclose(new.vectors, np.eye(3)[[place]])
    assert new.terms.indices.tolist() == [place]


def test_calls_and_fingerprint_name_both() -> None:
    both = LMAndFeedback(LM, FEEDBACK)
    assert both.lm_calls == 1
    names = {both.fingerprint, LMAndFeedback(FEEDBACK, LM).fingerprint, LMAndFeedback(LM, FEEDBACK, 0.4).fingerprint}
    assert len(names) == 3


def test_a_share_outside_0_to_1_is_named() -> None:
    with pytest.raises(ConfigError, match=r"lm_share -0\.1"):
        LMAndFeedback(LM, FEEDBACK, -0.1)
