from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.errors import ConfigError
from searchrl.search.api import TemplatedReward
from tests.small_models import OverlapReward


@given(query=st.text(), key=st.text(), before=st.text(alphabet="ab{}% "), after=st.text(alphabet="xy{} "))
def test_texts_stand_where_the_templates_say(query: str, key: str, before: str, after: str) -> None:
    inner = OverlapReward()
    reward = TemplatedReward(inner, "{query}" + after, before + "{key}")
    reward.score([query], [key])
    assert inner.asked == [(f"{query}{after}", f"{before}{key}")]


def test_scores_scale_and_fingerprint() -> None:
    inner = OverlapReward()
    reward = TemplatedReward(inner, "rain {query}", "{key} falls")
    np.testing.assert_array_equal(reward.score(["cheese"], ["rain"]), [0.5])
    assert reward.absolute
    names = {inner.fingerprint, reward.fingerprint, TemplatedReward(inner, "{query}", "{key}").fingerprint}
    assert len(names) == 3


def test_a_template_without_a_place_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"query_template 'rain' has no place for the text: write \{query\}"):
        TemplatedReward(OverlapReward(), "rain", "{key}")
    with pytest.raises(ConfigError, match="key_template"):
        TemplatedReward(OverlapReward(), "{query}", "{query}")
