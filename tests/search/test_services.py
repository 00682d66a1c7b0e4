from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from searchrl import Services
from searchrl.errors import ConfigError, DataError, ModelError
from searchrl.models.encoder import Encoder
from searchrl.reward.calibrated import CalibratedReward
from searchrl.reward.head import CrossEncoderReward
from searchrl.reward.lm import LMReward

QUERIES, KEYS = ["why does rain fall", "cheese"], ["clouds hold water", "cheese is made from milk", "bread"]


def test_three_models_behind_one_object(models: dict[str, Path]) -> None:
    async def run() -> None:
        services = Services(
            str(models["cross_encoder"]),
            str(models["lm"]),
            device="cpu",
            dtype="float32",
            cache=False,
            show_progress=False,
            key_template="On {key}",
        )
        async with services:
            results, matrix, texts, vectors = await asyncio.gather(
                services.search(QUERIES, KEYS, k=2, return_relevance=True),
                services.relevance(QUERIES, KEYS),
                services.generate(["Say something"], max_new_tokens=4),
                services.embed(["rain", "cheese"], kind="query"),
            )
            assert isinstance(services.reward, CrossEncoderReward)
            by_hand = services.reward.score(QUERIES[:1] * 3, [f"On {key}" for key in KEYS])
            np.testing.assert_allclose(matrix[0], by_hand, atol=1e-5)
            assert results[0]["keys"][0]["key_id"] == int(matrix[0].argmax())
            assert texts == services.lm.generate(["Say something"], max_new_tokens=4)
            np.testing.assert_allclose(vectors, Encoder().encode(["rain", "cheese"], kind="query"), atol=1e-5)
            with pytest.raises(DataError, match="prompts must be a list"):
                await services.generate("Say something")
        with pytest.raises(ConfigError, match="closed"):
            await services.embed(["rain"])

    asyncio.run(run())


def test_one_model_for_two_purposes_is_loaded_once(models: dict[str, Path]) -> None:
    services = Services(str(models["lm"]), str(models["lm"]), device="cpu", dtype="float32", cache=False)
    assert isinstance(services.reward, LMReward)
    assert services.reward.lm is services.lm
    services.close()


def test_each_may_run_elsewhere() -> None:
    services = Services(generation_engine="vllm", device="cpu", cache=False)
    assert isinstance(services.reward, CalibratedReward), "the one that ships"
    assert services.encoder.dim == 384
    with pytest.raises(ModelError, match="vllm"):
        _ = services.lm
    services.close()
