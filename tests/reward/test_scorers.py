from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from searchrl.config import EngineConfig
from searchrl.errors import ConfigError, ModelError
from searchrl.models.loader import ModelLoader
from searchrl.reward.cross_encoder import CrossEncoderReward
from searchrl.reward.head import HeadReward
from searchrl.reward.lm import LMReward
from searchrl.reward.qwen_reranker import QwenReranker
from searchrl.reward.scorers import ScorerSettings, make_scorer

QUERIES = ["why does rain fall", "why does rain fall", "cheese"]
KEYS = ["clouds hold water", "cheese is made from milk", "cheese is made from milk"]


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("lm", LMReward),
        ("head", HeadReward),
        ("chat head", HeadReward),
        ("cross_encoder", CrossEncoderReward),
        ("qwen3_reranker", QwenReranker),
    ],
)
def test_every_kind_of_model_scores(models: dict[str, Path], loader: ModelLoader, model: str, kind: type) -> None:
    scorer = make_scorer(str(models[model]), ScorerSettings(), loader)
    assert isinstance(scorer, kind)
    scores = scorer.score(QUERIES, KEYS)
    assert scores.shape == (3,)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 3


@pytest.mark.parametrize("method", ["yes_no", "graded", "likelihood", "pmi"])
def test_a_language_model_judges_as_it_is_told(models: dict[str, Path], loader: ModelLoader, method: Any) -> None:
    scorer = make_scorer(str(models["lm"]), ScorerSettings(method), loader)
    assert isinstance(scorer, LMReward)
    assert scorer.method == method


def test_small_models_judge_by_likelihood_and_no_name_is_the_installed_one(loader: ModelLoader) -> None:
    scorer = make_scorer(None, ScorerSettings(), loader)
    assert isinstance(scorer, LMReward)
    assert (scorer.method, scorer.max_document_words) == ("likelihood", 80)
    assert scorer.lm is make_scorer("smollm2-135m", ScorerSettings(), loader).lm  # type: ignore[attr-defined]


def test_what_is_said_about_a_scorer_is_heeded(models: dict[str, Path], loader: ModelLoader, tmp_path: Path) -> None:
    settings = ScorerSettings(instruction="Find recipes", max_key_words=3)
    scorer = make_scorer(str(models["qwen3_reranker"]), settings, loader)
    cut = scorer.score(["cheese"] * 2, ["made from fresh milk", "made from fresh grass"])
    assert cut[0] == cut[1]
    assert isinstance(scorer, QwenReranker)
    assert scorer.instruction == "Find recipes"
    (tmp_path / "mine.toml").write_text('[judge.likelihood]\ncontext = "{document} So:"\n')
    own = make_scorer(str(models["lm"]), ScorerSettings(prompts=tmp_path / "mine.toml"), loader)
    plain = make_scorer(str(models["lm"]), ScorerSettings(), loader)
    assert own.fingerprint != plain.fingerprint
    assert own.score(["a"], ["b"])[0] != plain.score(["a"], ["b"])[0]


def test_long_keys_are_read_as_far_as_was_asked(models: dict[str, Path], loader: ModelLoader) -> None:
    scorer = make_scorer(str(models["lm"]), ScorerSettings(max_key_words=400), loader)
    start = "milk " * 390
    read = scorer.score(["cheese"] * 2, [start + "rain", start + "grass"])
    assert read[0] != read[1]


def test_settings_that_would_be_ignored_are_refused(models: dict[str, Path], loader: ModelLoader) -> None:
    for model, settings, named in [
        ("lm", ScorerSettings(instruction="x"), "instruction is not a setting of the scorer 'lm'"),
        ("lm", ScorerSettings("graded", instruction="x"), "instruction is not a setting of the scorer 'graded'"),
        ("head", ScorerSettings(max_key_words=5), "max_key_words is not a setting of the scorer 'head'"),
        ("cross_encoder", ScorerSettings(prompts=Path("p")), "prompts is not a setting"),
        ("qwen3_reranker", ScorerSettings(prompts=Path("p")), "prompts is not a setting"),
    ]:
        with pytest.raises(ConfigError, match=named):
            make_scorer(str(models[model]), settings, loader)


def test_impossible_settings_are_named(models: dict[str, Path], loader: ModelLoader) -> None:
    with pytest.raises(ConfigError, match="unknown scorer 'grade': did you mean 'graded'"):
        ScorerSettings("grade")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_key_words is 0"):
        ScorerSettings(max_key_words=0)
    for name in ("head", "cross_encoder", "qwen3_reranker"):
        with pytest.raises(ConfigError, match=f"scorer '{name}' needs model_name"):
            make_scorer(None, ScorerSettings(name), loader)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="unknown language model 'smollm'"):
        make_scorer("smollm", ScorerSettings(), loader)
    with pytest.raises(ModelError, match="not a causal language model"):
        make_scorer(str(models["head"]), ScorerSettings("likelihood"), loader)


def test_each_engine_says_what_it_cannot_do(models: dict[str, Path]) -> None:
    served = ModelLoader(EngineConfig(engine="http", base_url="http://127.0.0.1:9"), cache=False)
    with pytest.raises(ConfigError, match="say its scorer, one of yes_no, graded"):
        make_scorer(None, ScorerSettings(), served)
    with pytest.raises(ConfigError, match="does not run in-process on vLLM"):
        make_scorer(str(models["head"]), ScorerSettings(), ModelLoader("vllm", cache=False))
    with pytest.raises(ConfigError, match="unknown engine 'trasformers': did you mean 'transformers'"):
        ModelLoader("trasformers")  # type: ignore[arg-type]
