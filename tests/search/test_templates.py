from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl import Search
from searchrl.errors import ConfigError
from searchrl.search.api import TemplatedReward
from tests.small_models import CHAT, OverlapReward, small_classifier


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


def scores(model: Path, *sizes: int, **settings: Any) -> np.ndarray:
    async def run() -> np.ndarray:
        async with Search(str(model), *sizes, device="cpu", dtype="float32", cache=False, **settings) as search:
            return await search.get_relevance(["bread", "tide"], ["flour", "the moon [SEP]"])

    return asyncio.run(run())


def test_a_models_whole_prompt(tmp_path: Path) -> None:
    """As a text or as a function; the chat template as one of these scores as it does by itself."""
    model = small_classifier(tmp_path / "chat", chat_template=CHAT)
    written = "<user> {query} [SEP] <assistant> {key} [SEP] "
    plain = scores(model)
    np.testing.assert_allclose(scores(model, 1, 1, llm_template=written), plain, rtol=1e-5)
    by_function = scores(model, llm_template=lambda query, key: f"<user> {query} [SEP] <assistant> {key} [SEP] ")
    np.testing.assert_array_equal(by_function, scores(model, llm_template=written))
    assert np.abs(scores(model, llm_template="{key} [SEP] {query}") - plain).max() > 1e-3


def test_a_prompt_that_cannot_be(tmp_path: Path) -> None:
    model = small_classifier(tmp_path / "chat", chat_template=CHAT)
    for template, message in [("{query}", "write {query} and {key}"), (1, "must be, or give, a text")]:
        with pytest.raises(ConfigError, match=message):
            scores(model, llm_template=template)
    with pytest.raises(ConfigError, match="llm_template"):
        Search("smollm2-135m", llm_template="{query} {key}", device="cpu", cache=False)
    with pytest.raises(ConfigError, match="needs a model that is named"):
        Search(scorer=OverlapReward(), llm_template="{query} {key}")


def test_several_in_one_process(tmp_path: Path) -> None:
    """Each has its own model, template and thread."""
    models = [small_classifier(tmp_path / "one"), small_classifier(tmp_path / "two", chat_template=CHAT)]
    alone = [scores(model) for model in models]

    async def run() -> list[np.ndarray]:
        made = [Search(str(m), device="cpu", dtype="float32", cache=False, show_progress=False) for m in models]
        asked = [search.get_relevance(["bread", "tide"], ["flour", "the moon [SEP]"]) for search in made]
        found = await asyncio.gather(*asked)
        for search in made:
            search.close()
        return list(found)

    for together, apart in zip(asyncio.run(run()), alone, strict=True):
        np.testing.assert_allclose(together, apart, rtol=1e-5)
