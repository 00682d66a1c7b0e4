"""Training as a user runs it: it learns, is kept whole, goes on after a kill, and is used by name."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from searchrl.config import ComputeConfig
from searchrl.device import DeviceChoice
from searchrl.errors import ConfigError, DataError
from searchrl.fitting.lists import preference_quality
from searchrl.fitting.records import read_lists
from searchrl.fitting.settings import LoraSettings, PreferenceDataConfig, TrainLoraConfig
from searchrl.fitting.trainable import trainable_reward
from searchrl.fitting.trainer import PreferenceTrainer, load
from searchrl.fitting.training import RunFolder, _settled, _trainable, train
from searchrl.models.loader import ModelLoader
from searchrl.reward.calibrated import read_recipe
from searchrl.reward.registry import ScorerSettings, make_reward
from tests.command import Shell
from tests.fitting.conftest import pairs
from tests.formats import TOLERANCE, in_force
from tests.small_models import small_causal_lm
from tests.stage_commands import fit, read

pytestmark = pytest.mark.usefixtures("own_cache")

CPU = in_force(has_int8=False)
CLOSE = TOLERANCE[CPU.dtype]
SHORT = [
    *"--batch-size 8 --gradient-accumulation-steps 1".split(),
    *"--epochs 1 --learning-rate 0.01 --evaluation-steps 6 --save-steps 5 --logging-steps 3 --device cpu".split(),
]


@pytest.fixture
def flags(train_file: Path, test_file: Path) -> list[str]:
    return ["--dataset-list-train", str(train_file), "--dataset-list-test", str(test_file), *SHORT]


def adapter(folder: Path) -> dict[str, bytes]:
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    return {name: array.tobytes() for name, array in weights.items()}


def scores(model: str | Path, test_file: Path) -> np.ndarray:
    """Of the test pairs, by the toolkit's own scorer of that name."""
    lists = read_lists(test_file)
    own = make_reward(str(model), ScorerSettings(), ModelLoader(device="cpu", dtype=CPU.dtype, cache=False))
    return own.score([q for x in lists for q in x.queries], [d for x in lists for d in x.documents])


def test_a_head_learns_and_is_used_by_name(shell: Shell, flags: list[str], head: Path, test_file: Path) -> None:
    outcome = fit(shell, "train_lora", *flags, "--model-name", head, "--output-dir", "run", "--epochs", 5).ok
    place = shell.folder / "run"
    metrics = read(place / "metrics.json")
    assert metrics["before"]["accuracy"] < 0.8
    assert metrics["after"]["accuracy"] >= 0.95
    assert metrics["after"]["auc"] >= 0.95
    assert [entry["step"] for entry in metrics["during"]][:2] == [6, 12]
    assert "before" in outcome.out
    assert "update 6" in outcome.out
    assert f"--reward head --reward-model {Path('run') / 'merged'}" in outcome.out
    assert any(place.glob("tensorboard/events*"))
    assert any("classifier" in name for name in adapter(place)), "the head is part of the adapter"

    before, merged = scores(head, test_file), scores(place / "merged", test_file)
    assert np.abs(before - merged).max() > 0.1
    scorer = trainable_reward(str(head), "auto", CPU, None, None)
    load(scorer, place / "adapter").eval()
    lists = read_lists(test_file)
    reloaded = scorer.score([q for x in lists for q in x.queries], [d for x in lists for d in x.documents])
    recipe = read_recipe(place / "merged")
    assert recipe is not None
    assert recipe.calibration is not None
    assert recipe.calibration.slope > 0
    np.testing.assert_allclose(recipe.calibration.probability(reloaded), merged, rtol=CLOSE, atol=CLOSE)
    np.testing.assert_array_equal(scores(place / "adapter", test_file), merged)
    assert preference_quality(scorer, lists).accuracy == metrics["after"]["accuracy"]


@pytest.mark.parametrize("name", ["likelihood", "yes_no"])
def test_a_language_model_keeps_what_it_learned(
    shell: Shell, flags: list[str], tiny_lm: Path, test_file: Path, name: str
) -> None:
    outcome = fit(shell, "train_lora", *flags, "--model-name", tiny_lm, "--scorer", name, "--output-dir", "run").ok
    place = shell.folder / "run"
    scorer = trainable_reward(str(tiny_lm), name, CPU, None, None)
    lists = read_lists(test_file)
    before = preference_quality(scorer, lists)
    load(scorer, place / "adapter").eval()
    after = preference_quality(scorer, lists)
    merged = trainable_reward(str(place / "merged"), name, CPU, None, None)
    queries, documents = [q for x in lists for q in x.queries], [d for x in lists for d in x.documents]
    assert np.abs(merged.score(queries, documents) - scorer.score(queries, documents)).mean() < CLOSE
    exact = DeviceChoice("cpu", "float32", "for tests")
    scorer, merged = (trainable_reward(str(folder), name, exact, None, None) for folder in (tiny_lm, place / "merged"))
    load(scorer, place / "adapter").eval()
    reloaded, trained = merged.score(queries, documents), scorer.score(queries, documents)
    np.testing.assert_allclose(reloaded, trained, rtol=1e-3, atol=1e-4)
    metrics = read(place / "metrics.json")
    assert metrics["before"]["margin"] == pytest.approx(before.margin, abs=CLOSE)
    assert metrics["after"]["margin"] == pytest.approx(after.margin, abs=CLOSE)
    assert abs(after.margin - before.margin) > 1e-3
    assert f"--lm {Path('run') / 'merged'}" in outcome.out


def test_a_new_head_on_a_language_model(shell: Shell, flags: list[str], tiny_lm: Path, test_file: Path) -> None:
    assert fit(shell, "train_lora", *flags, "--model-name", tiny_lm, "--new-head", "--output-dir", "run").ok
    place = shell.folder / "run"
    assert any("score" in name for name in adapter(place))
    assert np.isfinite(scores(place / "merged", test_file)).all()
    assert read(place / "merged" / "config.json")["architectures"] == ["Qwen2ForSequenceClassification"]


class Killed(Exception):
    """Stands for a power cut."""


def test_killed_and_started_again_it_ends_the_same(
    shell: Shell, flags: list[str], head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = ("--lora-dropout", 0.2, "--gradient-accumulation-steps", 2)
    command = (*flags, "--model-name", head, "--epochs", 2, "--save-steps", 3, *extra)
    assert fit(shell, "train_lora", *command, "--output-dir", "whole").ok
    plain, left = PreferenceTrainer.training_step, [10]

    def mortal(self, *arguments, **settings):
        left[0] -= 1
        if not left[0]:
            raise Killed
        return plain(self, *arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(PreferenceTrainer, "training_step", mortal)
        with pytest.raises(Killed):
            fit(shell, "train_lora", *command, "--output-dir", "killed")
    half = shell.folder / "killed"
    assert not (half / "metrics.json").exists()
    newest = max(half.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    torn = half / "checkpoint-9999"
    torn.mkdir()
    (torn / "adapter_config.json").write_text("{")
    outcome = fit(shell, "train_lora", *command, "--output-dir", "killed").ok
    assert f"going on after update {newest.name.rpartition('-')[2]}" in outcome.out
    assert adapter(half) == adapter(shell.folder / "whole")
    told, kept = (read(shell.folder / name / "metrics.json") for name in ("killed", "whole"))
    for name in ("before", "after", "updates", "lists"):
        assert told[name] == kept[name]
    assert [x["eval_accuracy"] for x in told["during"]] == [x["eval_accuracy"] for x in kept["during"]]


def test_a_finished_run_is_not_trained_again_and_another_is_refused(
    shell: Shell, flags: list[str], head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*flags, "--model-name", head, "--output-dir", "run")
    assert fit(shell, "train_lora", *command, "--no-merge").ok
    assert not (shell.folder / "run" / "merged").exists()
    weights = adapter(shell.folder / "run")
    with monkeypatch.context() as patch:
        patch.setattr(PreferenceTrainer, "train", None)  # whoever trains now fails
        assert fit(shell, "train_lora", *command).ok
    assert (shell.folder / "run" / "merged" / "config.json").exists(), "merged on request, later"
    error = fit(shell, "train_lora", *command, "--r", 8).error
    assert "lora.r: 16 then, 8 now" in error
    assert "overwrite" in error
    assert "loss: 'pairwise' then, 'listwise' now" in fit(shell, "train_adpo_lora", *command).error
    for missing in (("--dataset-list-train", "nowhere.json"), ("--model-name", shell.folder / "nowhere")):
        assert "nowhere" in fit(shell, "train_lora", *command, *missing, "--overwrite").error
    assert adapter(shell.folder / "run") == weights, "nothing is deleted before all inputs are there"
    assert fit(shell, "train_lora", *command, "--r", 8, "--overwrite").ok
    assert adapter(shell.folder / "run") != weights


def test_from_human_judgments(shell: Shell, small_folder: Path, head: Path) -> None:
    flags = ("--dataset", small_folder, "--model-name", head, "--output-dir", "run", "--max-train", 6, *SHORT)
    outcome = fit(shell, "train_lora", *flags).ok
    assert "6 of 12 preference lists to train on" in outcome.out
    metrics = read(shell.folder / "run" / "metrics.json")
    assert metrics["lists"] == 6
    assert metrics["after"]["pairs"] >= metrics["after"]["lists"] * 5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--wandb-project", "p"], "wandb_project p: Weights & Biases is not installed: pip install wandb"),
        (["--wandb-run-name", "n"], "wandb_run_name needs wandb_project"),
        (["--dataset", "pydocs"], "dataset_list_test goes with dataset_list_train"),
        (["--learning-rate", "0"], "--learning-rate 0.0: must be above 0"),
        (["--r", "0"], "r 0: must be at least 1"),
        (["--new-head", "--scorer", "likelihood"], "new_head with scorer likelihood"),
        (["--dtype", "int8"], "dtype int8 cannot be trained"),
        (["--dataset-list-train", "none.json"], "none.json: no such file"),
    ],
)
def test_mistakes_are_one_line(shell: Shell, flags: list[str], head: Path, more: list[str], message: str) -> None:
    if "--wandb-project" in more and importlib.util.find_spec("wandb"):
        pytest.skip("Weights & Biases is installed here")
    outcome = fit(shell, "train_lora", *flags, "--model-name", head, "--output-dir", "run", *more)
    assert message in outcome.error


def test_a_folder_of_something_else_is_left_alone(shell: Shell, flags: list[str], head: Path) -> None:
    (shell.folder / "run").mkdir()
    (shell.folder / "run" / "thesis.txt").write_text("mine")
    command = (*flags, "--model-name", head, "--output-dir", "run", "--overwrite")
    assert "not a training run" in fit(shell, "train_lora", *command).error
    assert list((shell.folder / "run").iterdir()) == [shell.folder / "run" / "thesis.txt"]


@pytest.mark.parametrize("rate", ["1e9", "1e12"])
def test_fitting_that_diverges_stops_and_writes_nothing_that_is_not_finite(
    shell: Shell, flags: list[str], tiny_lm: Path, rate: str
) -> None:
    command = (*flags, "--model-name", tiny_lm, "--learning-rate", rate, "--save-steps", 1, "--output-dir", "run")
    outcome = fit(shell, "train_lora", *command)
    assert outcome.code == 1
    assert re.search(r"error: training diverged at update \d+: a .* is not finite; lower --learning-rate", outcome.err)
    assert not (shell.folder / "run" / "adapter").exists()
    for path in (shell.folder / "run").rglob("adapter_model.safetensors"):
        assert all(np.isfinite(array).all() for array in load_file(path).values())


def test_from_python_on_lists_in_memory(tmp_path: Path, tiny_lm: Path) -> None:
    from peft import LoraConfig

    from searchrl.fitting import fit as fit_lists

    records = [{"query": p["query"], "chosen_key": p["chosen"], "rejected_key": p["rejected"]} for p in pairs(40, 0)]
    peft = LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"], layers_to_transform=[1], r=4)
    where = {"output_dir": tmp_path / "run", "device": "cpu", "dtype": CPU.dtype}
    reward = fit_lists(records, tiny_lm, peft, **where, epochs=1, batch_size=8, learning_rate=0.01)
    assert np.isfinite(reward.score(["red"], ["useful stone"])).all()
    layers = {name for name in adapter(tmp_path / "run") if "lora_A" in name}
    assert {name.split("layers.")[1][0] for name in layers} == {"1"}, "of the layers asked for"
    assert any("score" in name for name in adapter(tmp_path / "run")), "SEQ_CLS puts a head on a language model"

    def refused(kind: type[Exception], message: str, *given: object, **settings: object) -> None:
        with pytest.raises(kind, match=message):
            fit_lists(*given, output_dir=tmp_path / "other", device="cpu", **settings)

    refused(DataError, "dataset_list, record 1, 'rejected_key'", [{"query": "q", "chosen_key": "c"}], tiny_lm)
    refused(ConfigError, "unknown setting 'epoch'", records, tiny_lm, epoch=1)
    refused(
        ConfigError, "peft_config use_dora True: is not a setting here", records, tiny_lm, LoraConfig(use_dora=True)
    )
    refused(ConfigError, "must be the last of", records, tiny_lm, {"layers_to_transform": [0]})
    assert not (tmp_path / "other").exists()


def test_a_new_head_on_a_cpu_trains_the_last_third_of_the_layers(tmp_path: Path, train_file: Path) -> None:
    base = small_causal_lm(tmp_path / "base", "qwen2", layers=6)
    lora = LoraSettings(model_name=str(base), new_head=True)
    config = TrainLoraConfig(
        tmp_path / "run", PreferenceDataConfig(train_file), lora=lora, compute=ComputeConfig("cpu"), dtype=CPU.dtype
    )
    reward, _ = _trainable(config, CPU, RunFolder(config.output_dir))
    assert _settled(config, reward, CPU).lora.last_layers == 2
    many = replace(config, lora=replace(lora, last_layers=7), output_dir=tmp_path / "other")
    with pytest.raises(ConfigError, match="last_layers 7: the model has 6"):
        train(many, print)
    assert not many.output_dir.exists(), "refused before the model is given a head"
