from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl import Search
from searchrl.errors import ConfigError, DataError, ModelError
from searchrl.models.language_model import FloatArray
from searchrl.search import api
from tests.small_models import OverlapReward, overlap
from tests.tiny import WordEncoder

QUERIES = ["rain falls", "milk and cheese", "cheese"]
KEYS = ["clouds let rain fall", "cheese is made from milk", "rain falls", "bread", "cheese and milk and bread"]

WORDS = st.lists(st.sampled_from("rain snow milk bread tea".split()), min_size=1, max_size=3).map(" ".join)


def toy(**settings: Any) -> Search:
    """A search by common words, which keeps and prints nothing."""
    return Search(
        **{"scorer": OverlapReward(), "encoder": WordEncoder(), "cache": False, "show_progress": False, **settings}
    )


def test_results_have_the_shape_that_was_promised() -> None:
    async def run() -> None:
        async with toy() as search:
            results = await search(QUERIES, KEYS, k=2, return_relevance=True)
            assert results[1] == {
                "query": "milk and cheese",
                "query_id": 1,
                "keys": [
                    {"key_id": 4, "key": KEYS[4], "relevance": 1.0},
                    {"key_id": 1, "key": KEYS[1], "relevance": pytest.approx(2 / 3)},
                ],
            }
            assert [result["query_id"] for result in results] == [0, 1, 2]
            bare = await search(QUERIES[:1], KEYS, k=1)
            assert bare == [{"query": "rain falls", "query_id": 0, "keys": [{"key_id": 2, "key": "rain falls"}]}]
            assert len((await search(QUERIES, KEYS, k=None))[0]["keys"]) == len(KEYS)
            assert len((await search(QUERIES, KEYS))[0]["keys"]) == len(KEYS)  # k is 10

    asyncio.run(run())


@settings(max_examples=25)
@given(queries=st.lists(WORDS, max_size=5), keys=st.lists(WORDS, max_size=7), k=st.integers(1, 8))
def test_search_and_relevance_agree_with_comparing_everything(queries: list[str], keys: list[str], k: int) -> None:
    async def run() -> None:
        async with toy() as search:
            matrix = await search.get_relevance(queries, keys)
            results = await search(queries, keys, k, return_relevance=True)
        expected = np.array([[overlap(q, d) for d in keys] for q in queries], dtype=np.float32)
        np.testing.assert_array_equal(matrix, expected.reshape(len(queries), len(keys)))
        assert matrix.dtype == np.float32
        for i, result in enumerate(results):
            order = sorted(range(len(keys)), key=lambda j: (-matrix[i, j], j))[:k]
            assert [found["key_id"] for found in result["keys"]] == order
            assert [found["relevance"] for found in result["keys"]] == [matrix[i, j] for j in order]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "QUERIES_AT_ONCE", 2)
        patch.setattr(api, "PAIRS_AT_ONCE", 3)
        asyncio.run(run())


def test_equal_pairs_are_scored_once() -> None:
    reward = OverlapReward()

    async def run() -> None:
        async with toy(scorer=reward) as search:
            await search(QUERIES * 3, KEYS * 2)

    asyncio.run(run())
    assert sorted(reward.asked) == sorted({(q, d) for q in QUERIES for d in KEYS})


def test_templates_are_filled_in() -> None:
    reward = OverlapReward()

    async def run() -> None:
        async with toy(scorer=reward, query_template="Q: {query}", key_template="{key}!") as search:
            results = await search(["rain"], ["snow"])
            assert results[0]["query"] == "rain"
            assert results[0]["keys"][0]["key"] == "snow"

    asyncio.run(run())
    assert reward.asked == [("Q: rain", "snow!")]


def nearest(query: str, keys: list[str], count: int) -> set[int]:
    """The keys of the highest cosine."""
    vectors = WordEncoder().encode([query, *keys], kind="query", show_progress=False, description="")
    return set(np.argsort(-vectors[1:] @ vectors[0], kind="stable")[:count].tolist())


@pytest.mark.parametrize("retriever", ["dense", "hybrid"])
def test_of_many_keys_only_the_candidates_are_scored(retriever: Any) -> None:
    keys = [f"key {i} about {word}" for i, word in enumerate(["rain", "milk", "bread"] * 20)]
    reward = OverlapReward()

    async def run() -> None:
        search = toy(scorer=reward, retriever=retriever, candidates=20, candidates_above=50)
        async with search:
            found = await search(["about rain", "about milk"], keys, k=20)
            assert len(reward.asked) == 40
            for word, result in zip(["rain", "milk"], found, strict=True):
                dense = nearest(f"about {word}", keys, 20)
                words = {i for i, key in enumerate(keys) if key.endswith(word)}
                assert {entry["key_id"] for entry in result["keys"]} == (dense if retriever == "dense" else words)
            assert len((await search(["about rain"], keys, k=25))[0]["keys"]) == 25
            reward.asked.clear()
            everything = await search(["about rain"], keys, k=20, exhaustive=True)
            assert len(reward.asked) == 60
            assert {entry["key"].split()[-1] for entry in everything[0]["keys"]} == {"rain"}
            reward.asked.clear()
            assert (await search.get_relevance(["about rain"], keys)).shape == (1, 60)
            await search(["about rain"], keys[:50])
            assert len(reward.asked) == 110

    asyncio.run(run())


def test_a_tag_tree_finds_candidates_too() -> None:
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeo" for c in "xyz"]
    random = np.random.default_rng(0)
    keys = [" ".join(random.choice(words, 4)) for _ in range(200)]
    reward = OverlapReward()

    async def run() -> None:
        async with toy(scorer=reward, retriever="tagtree", candidates=10, candidates_above=50) as search:
            found = await search(["bax dey", "kox"], keys, k=10)
            assert len(reward.asked) == 20
            for query, result in zip(["bax dey", "kox"], found, strict=True):
                ours = {entry["key_id"] for entry in result["keys"]}
                assert len(ours) == 10
                assert len(ours & nearest(query, keys, 10)) >= 7, "nearly what exact search finds"
            assert len((await search(["bax"], keys, k=150))[0]["keys"]) == 150
            with pytest.raises(DataError, match=r"retriever 'tagtree': no phrase .* or use retriever 'dense'"):
                await search(["bax"], ["the"] * 60)

    asyncio.run(run())


def test_the_index_of_the_same_keys_is_made_once() -> None:
    encoder = WordEncoder()

    async def run() -> None:
        async with toy(encoder=encoder, candidates=2, candidates_above=3) as search:
            for queries, more in ((QUERIES[:1], 1 + len(KEYS)), (QUERIES[1:], 2)):
                before = encoder.encoded
                await search(queries, KEYS, k=2)
                assert encoder.encoded - before == more
            await search(QUERIES[:1], KEYS[::-1], k=2)
            assert encoder.encoded == 2 * len(KEYS) + 4

    asyncio.run(run())


def test_results_stream_as_they_are_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "QUERIES_AT_ONCE", 1)
    reward = OverlapReward()

    async def run() -> None:
        async with toy(scorer=reward) as search:
            seen = []
            async for result in search.stream(QUERIES, KEYS, k=1):
                seen.append(result)
                assert len(reward.asked) == len(KEYS) * len(seen)
            assert seen == await search(QUERIES, KEYS, k=1)

    asyncio.run(run())


def test_who_leaves_a_stream_early_stops_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(api, "QUERIES_AT_ONCE", 1)
    reward = OverlapReward()

    async def run() -> None:
        async with toy(scorer=reward) as search:
            stream = search.stream(QUERIES, KEYS, checkpoint=tmp_path / "c")
            first = await anext(stream)
            await stream.aclose()
            assert len(reward.asked) == len(KEYS)
            search.save_results(tmp_path / "r.json")
            assert json.loads((tmp_path / "r.json").read_text()) == [first]

    asyncio.run(run())


def test_the_event_loop_stays_free_and_searches_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "PAIRS_AT_ONCE", 1)
    reward = OverlapReward(seconds=0.02)

    async def run() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        clock = asyncio.create_task(tick())
        async with toy(scorer=reward) as search:
            await asyncio.gather(search(["rain"], KEYS), search(["milk"], KEYS))
        clock.cancel()
        assert ticks >= 10  # of about 40
        assert [query for query, _ in reward.asked[:4]] == ["rain", "milk", "rain", "milk"]
        assert reward.calls == [1] * 10

    asyncio.run(run())


def test_a_cancelled_search_stops_after_its_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "PAIRS_AT_ONCE", 1)
    reward = OverlapReward(seconds=0.05)

    async def run() -> None:
        async with toy(scorer=reward) as search:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(search(["rain"], [str(i) for i in range(1000)]), 0.12)
            assert (await search(["rain"], ["rain"], return_relevance=True))[0]["keys"][0]["relevance"] == 1.0
        assert len(reward.asked) < 20

    asyncio.run(run())


def test_the_chunk_under_way_when_a_search_is_cancelled_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(api, "PAIRS_AT_ONCE", 1)
    first, second = OverlapReward(seconds=0.1), OverlapReward()

    async def run(reward: OverlapReward, seconds: float) -> None:
        async with toy(scorer=reward) as search:
            await asyncio.wait_for(search(["rain"], KEYS, checkpoint=tmp_path / "c"), seconds)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(run(first, 0.15))
    assert 0 < len(first.asked) < len(KEYS)
    asyncio.run(run(second, 60))
    assert sorted(first.asked + second.asked) == sorted(("rain", key) for key in KEYS)


def test_an_error_in_scoring_reaches_the_caller_and_harms_nothing_else() -> None:
    class Sometimes(OverlapReward):
        def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
            if "bad" in queries:
                raise ModelError("no finite score")
            return super().score(queries, documents)

    async def run() -> None:
        async with toy(scorer=Sometimes()) as search:
            with pytest.raises(ModelError, match="no finite score"):
                await search(["bad"], KEYS)
            assert len(await search(QUERIES, KEYS)) == 3

    asyncio.run(run())


def test_the_bar_counts_pairs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    async def run() -> None:
        async with toy(show_progress=True) as search:
            await search(QUERIES, KEYS)

    asyncio.run(run())
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "scoring: 100%" in last
    assert "15/15" in last
    assert "pair/s" in last


def test_results_are_saved(tmp_path: Path) -> None:
    async def run() -> None:
        async with toy() as search:
            with pytest.raises(ConfigError, match="search first"):
                search.save_results(tmp_path / "r.json")
            results = await search(QUERIES, KEYS, return_relevance=True)
            search.save_results(str(tmp_path / "r.json"))
            assert json.loads((tmp_path / "r.json").read_text()) == results

    asyncio.run(run())


@pytest.mark.parametrize(
    ("queries", "keys", "k", "error", "message"),
    [
        ("rain", KEYS, 1, DataError, "queries must be a list of texts, not 'rain'"),
        (QUERIES, 3, 1, DataError, "keys must be a list of texts, not 3"),
        (QUERIES, ["a", None], 1, DataError, r"keys\[1\] is not a text: None"),
        (QUERIES, KEYS, 0, ConfigError, "`k` 0: must be at least 1"),
    ],
)
def test_what_cannot_be_searched_is_named(queries: Any, keys: Any, k: int, error: type, message: str) -> None:
    async def run() -> None:
        async with toy() as search:
            await search(queries, keys, k)

    with pytest.raises(error, match=message):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_name": "m"}, "model_name 'm' with a scorer that is ready made"),
        ({"scorer": "best"}, "unknown scorer 'best'"),
        ({"candidates": 0}, "`candidates` 0"),
        ({"candidates_above": -1}, "`candidates_above` -1"),
        ({"retriever": "sparse"}, "`retriever`: unknown value 'sparse'"),
        ({"engine": "onnx"}, "`engine`: unknown value 'onnx'"),
        ({"tensor_parallel_size": 2}, "`tensor_parallel_size` above 1 needs `engine` vllm, not transformers"),
        ({"pipeline_parallel_size": 2}, "`pipeline_parallel_size` above 1 needs `engine` vllm"),
        ({"base_url": "http://x"}, "`base_url` needs `engine` http"),
        ({"key_template": "k"}, "key_template"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        toy(**settings)


def test_a_closed_search_says_so() -> None:
    search = toy()
    search.close()
    search.close()
    with pytest.raises(ConfigError, match="this search is closed"):
        asyncio.run(search(QUERIES, KEYS))


def test_one_search_serves_several_event_loops() -> None:
    search = toy()
    assert asyncio.run(search(QUERIES, KEYS)) == asyncio.run(search(QUERIES, KEYS))
    search.close()


def test_the_installed_model_tells_what_belongs_together(tmp_path: Path) -> None:
    """README: the snippet."""

    async def run() -> None:
        queries = ["How to make an LLM?", "What's the capital of Japan?"]
        keys = ["An LLM is a large language model, made by training on text.", "The capital of Japan is Tokyo."]
        search = Search(
            model_name="smollm2-135m",
            tensor_parallel_size=1,
            pipeline_parallel_size=1,
            device="cpu",
            cache=False,
            show_progress=False,
        )
        results = await search(queries, keys, k=1, return_relevance=True)
        assert [result["keys"][0]["key_id"] for result in results] == [0, 1]
        matrix = await search.get_relevance(queries, keys)
        assert matrix.shape == (2, 2)
        np.testing.assert_allclose([r["keys"][0]["relevance"] for r in results], matrix.max(axis=1), atol=1e-3)
        search.close()

    asyncio.run(run())


def test_names_of_the_package_are_found_without_loading_it() -> None:
    import searchrl

    assert {"Search", "Services"} <= set(dir(searchrl))
    with pytest.raises(AttributeError, match="no attribute 'Serch'"):
        _ = searchrl.Serch
