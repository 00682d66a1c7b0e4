from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from searchrl.config import EngineConfig
from searchrl.errors import ConfigError, ModelError
from searchrl.models.folders import minilm_folder, smollm2_folder
from searchrl.models.loader import ModelLoader
from searchrl.reward.calibrated import CalibratedReward
from searchrl.reward.head import CrossEncoderReward, HeadReward
from searchrl.reward.lm import LMReward, QwenReranker
from searchrl.reward.registry import ScorerSettings, detect_kind, make_reward
from searchrl.reward.reward_model import CachedReward

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
    scorer = make_reward(str(models[model]), ScorerSettings(), loader)
    assert isinstance(scorer, kind)
    scores = scorer.score(QUERIES, KEYS)
    assert scores.shape == (3,)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 3


@pytest.mark.parametrize("method", ["yes_no", "graded", "likelihood", "pmi"])
def test_a_language_model_judges_as_it_is_told(models: dict[str, Path], loader: ModelLoader, method: Any) -> None:
    scorer = make_reward(str(models["lm"]), ScorerSettings(method), loader)
    assert isinstance(scorer, LMReward)
    assert scorer.method == method


def test_small_models_judge_by_likelihood(loader: ModelLoader) -> None:
    scorer = make_reward("smollm2-135m", ScorerSettings(), loader)
    assert isinstance(scorer, LMReward)
    assert (scorer.method, scorer.max_document_words) == ("likelihood", 80)
    assert scorer.lm is make_reward(None, ScorerSettings("likelihood"), loader).lm  # type: ignore[attr-defined]


def test_no_name_is_the_installed_model_as_it_was_fitted(loader: ModelLoader) -> None:
    scorer = make_reward(None, ScorerSettings(), loader)
    assert isinstance(scorer, CalibratedReward)
    assert isinstance(scorer.reward, LMReward)
    assert scorer.reward.method == "pmi"
    assert scorer.absolute


def test_what_is_said_about_a_scorer_is_heeded(models: dict[str, Path], loader: ModelLoader, tmp_path: Path) -> None:
    settings = ScorerSettings(instruction="Find recipes", max_key_words=3)
    scorer = make_reward(str(models["qwen3_reranker"]), settings, loader)
    cut = scorer.score(["cheese"] * 2, ["made from fresh milk", "made from fresh grass"])
    assert cut[0] == cut[1]
    assert isinstance(scorer, QwenReranker)
    assert scorer.prompts.reranker_instruction == "Find recipes"
    (tmp_path / "mine.toml").write_text('[judge.likelihood]\ncontext = "{document} So:"\n')
    own = make_reward(str(models["lm"]), ScorerSettings(prompts=tmp_path / "mine.toml"), loader)
    plain = make_reward(str(models["lm"]), ScorerSettings(), loader)
    assert own.fingerprint != plain.fingerprint
    assert own.score(["a"], ["b"])[0] != plain.score(["a"], ["b"])[0]


def test_long_keys_are_read_as_far_as_was_asked(models: dict[str, Path], loader: ModelLoader) -> None:
    scorer = make_reward(str(models["lm"]), ScorerSettings(max_key_words=400), loader)
    start = "milk " * 390
    read = scorer.score(["cheese"] * 2, [start + "rain", start + "grass"])
    assert read[0] != read[1]


def test_what_was_scored_is_remembered_once(models: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    """By its scores where the model is no language model, by its answers where it is one."""
    monkeypatch.setenv("SEARCHRL_CACHE", str(tmp_path))
    for model, kind in (("head", CachedReward), ("lm", LMReward)):
        first = []
        for _ in range(2):
            loader = ModelLoader(device="cpu", dtype="float32")
            reward = make_reward(str(models[model]), ScorerSettings(), loader)
            assert isinstance(reward, kind)
            first.append(reward.score(QUERIES, KEYS))
            hits = reward.hits if isinstance(reward, CachedReward) else reward.lm.hits  # type: ignore[attr-defined]
            assert hits == 3 * (len(first) - 1)
            loader.close()
        np.testing.assert_array_equal(*first)


def test_settings_that_would_be_ignored_are_refused(models: dict[str, Path], loader: ModelLoader) -> None:
    for model, chosen, named in [
        ("lm", ScorerSettings(instruction="x"), "instruction is not a setting of the scorer 'lm'"),
        ("lm", ScorerSettings("graded", instruction="x"), "instruction is not a setting of the scorer 'graded'"),
        ("head", ScorerSettings(max_key_words=5), "max_key_words is not a setting of the scorer 'head'"),
        ("cross_encoder", ScorerSettings(prompts=Path("p")), "prompts is not a setting"),
    ]:
        with pytest.raises(ConfigError, match=named):
            make_reward(str(models[model]), chosen, loader)


def test_impossible_settings_are_named(models: dict[str, Path], loader: ModelLoader) -> None:
    with pytest.raises(ConfigError, match="unknown scorer 'grade': did you mean 'graded'"):
        ScorerSettings("grade")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_key_words 0"):
        ScorerSettings(max_key_words=0)
    for name in ("head", "cross_encoder", "qwen3_reranker"):
        with pytest.raises(ConfigError, match=f"scorer '{name}' needs model_name"):
            make_reward(None, ScorerSettings(name), loader)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="unknown language model 'smollm'"):
        make_reward("smollm", ScorerSettings(), loader)
    with pytest.raises(ModelError, match="not a causal language model"):
        make_reward(str(models["head"]), ScorerSettings("likelihood"), loader)


def test_each_engine_says_what_it_cannot_do(models: dict[str, Path]) -> None:
    served = ModelLoader(EngineConfig(engine="http", base_url="http://127.0.0.1:9"), cache=False)
    with pytest.raises(ConfigError, match="say its scorer, one of yes_no, graded"):
        make_reward(None, ScorerSettings(), served)
    with pytest.raises(ConfigError, match="does not run in-process on vLLM"):
        make_reward(str(models["head"]), ScorerSettings(), ModelLoader("vllm", cache=False))
    with pytest.raises(ConfigError, match="`engine`: unknown value 'trasformers'; did you mean 'transformers'"):
        ModelLoader("trasformers")  # type: ignore[arg-type]


def config_of(folder: Path, **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_every_kind_is_told_from_its_files(models: dict[str, Path]) -> None:
    for kind, folder in models.items():
        assert detect_kind("a name", folder) == kind.removeprefix("chat ")
    assert detect_kind("smollm2-135m", smollm2_folder()) == "lm"


def test_a_reranker_under_another_name_is_known_by_its_template(models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(models["qwen3_reranker"], folder)
    assert detect_kind("mine", folder) == "lm"
    assert detect_kind("Qwen/Qwen3-Reranker-0.6B", folder) == "qwen3_reranker"
    (folder / "chat_template.jinja").write_text("Judge whether the Document meets the requirements based on ...")
    assert detect_kind("mine", folder) == "qwen3_reranker"


def test_marks_of_older_sentence_transformers_are_known(tmp_path: Path) -> None:
    kind = ["BertForSequenceClassification"]
    activation = "torch.nn.modules.linear.Identity"
    older = config_of(tmp_path / "a", architectures=kind, sbert_ce_default_activation_function=activation)
    newer = config_of(tmp_path / "b", architectures=kind, sentence_transformers={"activation_fn": activation})
    assert detect_kind("a", older) == detect_kind("b", newer) == "cross_encoder"
    assert detect_kind("c", config_of(tmp_path / "c", architectures=kind)) == "head"


def test_a_causal_cross_encoder_is_run_as_its_author_saved_it(tmp_path: Path) -> None:
    folder = config_of(tmp_path / "z", architectures=["Qwen3ForCausalLM"])
    (folder / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    assert detect_kind("zerank", folder) == "cross_encoder"


def test_what_gives_no_relevance_gets_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"MiniLM is a BertModel, which gives no relevance: .* scorer="):
        detect_kind("MiniLM", minilm_folder())
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        detect_kind("nothing", tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.text(max_size=5) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["architectures", "model_type", "sentence_transformers"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_config_is_a_kind_or_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with suppress(ModelError):
        assert detect_kind("any", tmp_path) in ("lm", "head", "cross_encoder", "qwen3_reranker")
