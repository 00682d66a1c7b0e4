"""Arguments of any type: taken by value, or refused with one error before anything is scored."""

from __future__ import annotations

import asyncio
import contextlib
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl import Search, Services
from searchrl.errors import ConfigError, SearchRLError
from searchrl.search.api import OPTIONS
from tests.small_models import OverlapReward
from tests.tiny import WordEncoder

ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.binary(),
        st.complex_numbers(),
        st.sampled_from([np.int64(2), np.float32(2.0), np.nan, pd.NA, pd.NaT, Decimal(2), np.array([1, 2]), object()]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=2)),
    max_leaves=5,
)
SETTINGS = [*OPTIONS, "scorer", "encoder", "engine", "tensor_parallel_size", "worker"]
TEXTS = st.lists(st.text(), max_size=3)


def search(method: str, *arguments: Any, **options: Any) -> tuple[Any, OverlapReward]:
    reward = OverlapReward()

    async def run() -> Any:
        async with Search(scorer=reward, cache=False, show_progress=False) as made:
            return await getattr(made, method)(*arguments, **options)

    return asyncio.run(run()), reward


@pytest.mark.parametrize("k", [2.0, np.int64(2), np.float32(2), Decimal(2), 2])
def test_a_whole_number_is_one_whatever_holds_it(k: Any) -> None:
    found, _ = search("__call__", ["tea"], ["tea", "salt", "coal"], k)
    assert [key["key"] for key in found[0]["keys"]] == ["tea", "salt"]


@pytest.mark.parametrize("k", [2.5, "2", True, float("nan"), float("inf"), [2], b"2", pd.NA, 2j])
def test_what_is_no_whole_number_is_refused_before_scoring(k: Any) -> None:
    reward = OverlapReward()

    async def run() -> None:
        async with Search(scorer=reward, cache=False, show_progress=False) as made:
            await made(["tea"], ["salt"], k)

    with pytest.raises(ConfigError, match=r"`k` .*: must be a whole number"):
        asyncio.run(run())
    assert not reward.asked


@given(st.one_of(TEXTS, ANYTHING), st.one_of(TEXTS, ANYTHING), st.one_of(st.integers(-1, 3), st.none(), ANYTHING))
def test_texts_and_k_of_any_type(queries: Any, keys: Any, k: Any) -> None:
    try:
        found, _ = search("__call__", queries, keys, k)
    except SearchRLError:
        return
    assert len(found) == len(list(queries))


@given(ANYTHING, ANYTHING, ANYTHING, st.sampled_from(["query", "key", "x", 0, None]))
def test_frames_of_any_cells(queries: Any, keys: Any, group: Any, column: Any) -> None:
    try:
        frames = pd.DataFrame({"query": queries}), pd.DataFrame({"key": keys, "x": group})
    except (ValueError, TypeError, KeyError):
        return
    for frame in frames:
        with contextlib.suppress(SearchRLError):
            search("search_by_df", *frames, k=2, group="x" if column == "x" else None, key_column=column)
        with contextlib.suppress(SearchRLError):
            search("search_by_df", frame, queries)


@pytest.mark.parametrize("name", ["relevance", "query_id", "query", "rank", "key_id", "key"])
def test_a_group_that_is_called_like_a_column_of_the_result_is_refused(name: str) -> None:
    frame = pd.DataFrame({"key": ["a"], name: ["a"]})
    with pytest.raises(ConfigError, match=f"group '{name}': the result has a column of that name"):
        search("search_by_df", pd.DataFrame({"query": ["q"]}), frame, group=name)


def test_no_queries_and_no_keys_are_a_result() -> None:
    assert search("__call__", [], ["a"])[0] == []
    assert search("__call__", ["q"], [])[0] == [{"query": "q", "query_id": 0, "keys": []}]
    empty, _ = search("search_by_df", pd.DataFrame({"query": []}), pd.DataFrame({"key": []}))
    assert list(empty.columns) == ["query_id", "query", "rank", "key_id", "key", "relevance"]
    assert search("get_relevance", ["q"], [])[0].shape == (1, 0)


@given(
    st.sampled_from([*OPTIONS, "scorer", "encoder", "engine", "tensor_parallel_size", "worker", "llm_template"]),
    ANYTHING,
)
def test_settings_of_any_type(name: str, value: Any) -> None:
    """Of ``Search`` and ``Services``: taken, or refused with one error before any model is loaded."""
    for make in (Search, Services):
        given: dict[str, Any] = {"scorer": OverlapReward(), "cache": False, name: value}
        if make is Services and name in ("encoder", "worker", "tensor_parallel_size"):
            continue
        if name == "scorer" and (value is None or value == "auto"):
            continue  # the device's language model
        with contextlib.suppress(SearchRLError):
            make(**given).close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"search_model": 3}, "`search_model` is 3"),
        ({"generation_model": 3}, "`generation_model` 3: give a name, or an object with the method generate"),
        ({"embedding_model": [1]}, "an object with the method encode"),
        ({"engine": 1.5}, "`engine` 1.5: give a name or an EngineConfig"),
        ({"candidats": 3}, "unknown argument 'candidats'; did you mean 'candidates'"),
        ({"device": 0}, "`device` is 0, which is not str"),
        ({"cache": "no"}, "`cache` is 'no', which is not bool"),
    ],
)
def test_services_say_what_is_wrong_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Services(**settings)


class Writes:
    fingerprint = "writes"

    def generate(self, prompts: list[str], **settings: Any) -> list[str]:
        return prompts


@given(st.one_of(TEXTS, ANYTHING), ANYTHING, ANYTHING, ANYTHING)
def test_services_take_anything_or_refuse_it(texts: Any, one: Any, two: Any, three: Any) -> None:
    async def run() -> None:
        async with Services(
            generation_model=Writes(), embedding_model=WordEncoder(), scorer=OverlapReward(), cache=False
        ) as services:
            for work in (
                services.generate(texts, max_new_tokens=one, temperature=two, seed=three),
                services.embed(texts, kind=one),
                services.score(texts),
                services.score([texts, (one, two)]),
                services.relevance(texts, one),
            ):
                with contextlib.suppress(SearchRLError):
                    await work

    asyncio.run(run())
