from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from searchrl.errors import ModelError
from searchrl.models.folders import minilm_folder, smollm2_folder
from searchrl.reward.detect import detect_scorer


def config_of(folder: Path, **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_every_kind_is_told_from_its_files(models: dict[str, Path]) -> None:
    for kind, folder in models.items():
        assert detect_scorer("a name", folder) == kind.removeprefix("chat ")
    assert detect_scorer("smollm2-135m", smollm2_folder()) == "lm"


def test_a_reranker_under_another_name_is_known_by_its_template(models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(models["qwen3_reranker"], folder)
    assert detect_scorer("mine", folder) == "lm"
    assert detect_scorer("Qwen/Qwen3-Reranker-0.6B", folder) == "qwen3_reranker"
    (folder / "chat_template.jinja").write_text("Judge whether the Document meets the requirements based on ...")
    assert detect_scorer("mine", folder) == "qwen3_reranker"


def test_marks_of_older_sentence_transformers_are_known(tmp_path: Path) -> None:
    kind = ["BertForSequenceClassification"]
    activation = "torch.nn.modules.linear.Identity"
    older = config_of(tmp_path / "a", architectures=kind, sbert_ce_default_activation_function=activation)
    newer = config_of(tmp_path / "b", architectures=kind, sentence_transformers={"activation_fn": activation})
    assert detect_scorer("a", older) == detect_scorer("b", newer) == "cross_encoder"
    assert detect_scorer("c", config_of(tmp_path / "c", architectures=kind)) == "head"


def test_a_causal_cross_encoder_is_run_as_its_author_saved_it(tmp_path: Path) -> None:
    folder = config_of(tmp_path / "z", architectures=["Qwen3ForCausalLM"])
    (folder / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    assert detect_scorer("zerank", folder) == "cross_encoder"


def test_what_gives_no_relevance_gets_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"MiniLM is a BertModel, which gives no relevance: .* scorer="):
        detect_scorer("MiniLM", minilm_folder())
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        detect_scorer("nothing", tmp_path)


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
        assert detect_scorer("any", tmp_path) in ("lm", "head", "cross_encoder", "qwen3_reranker")
