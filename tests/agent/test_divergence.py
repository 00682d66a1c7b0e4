"""Training that diverges says so and leaves nothing that is not finite; such checkpoints are not read either."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from searchrl.agent.checkpoint import PolicyCheckpoint, load_policy, load_torch, not_finite, save_policy, save_torch
from searchrl.agent.policy import Policy
from searchrl.agent.trainer import Progress, Trainer
from searchrl.config import LearningConfig
from searchrl.env.graph import GraphTensors, RewardRules
from searchrl.errors import CheckpointError, ConfigError, DivergedError
from tests.command import Shell
from tests.toy import toy_graph

GRAPH = GraphTensors(toy_graph(n=60, seed=5), RewardRules("qrels", 0.0))

DIVERGES: list[dict[str, object]] = [
    {"lr": 1e6},
    {"lr": 1e9},
    {"lr": 1e12},
    {"lr": 1e6, "estimator": "reinforce"},
    {"lr": 1e9, "estimator": "reinforce", "baseline": "value"},
    {"lr": 1e9, "policy": "mlp"},
    {"lr": 1e12, "observe": "all"},
    {"weight_decay": 1e9},
    {"weight_decay": 1e12, "estimator": "reinforce"},
    {"lr": 1e3, "weight_decay": 1e6},
]


@pytest.mark.parametrize("settings", DIVERGES, ids=str)
def test_training_stops_where_numbers_end(settings: dict[str, object]) -> None:
    config = LearningConfig(episodes=6400, eval_every=640, hidden=16, **settings)  # type: ignore[arg-type]
    trainer = Trainer(GRAPH, GRAPH, config, GRAPH.query_vectors.shape[-1])
    seen: list[Progress] = []
    with pytest.raises(DivergedError, match=r"diverged after episode \d+: the .* (is|are) .*; lower `lr`"):
        trainer.run(seen.append)
    assert not not_finite(trainer.best_policy().state_dict())
    assert all(progress.dev is None or progress.dev.score == progress.dev.score for progress in seen)


@pytest.mark.parametrize("name", ["lr", "entropy", "loss_aversion", "weight_decay"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300])
def test_settings_that_are_no_numbers_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"`{name}`"):
        LearningConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{"seed": 2**64}, {"hidden": 10**9}, {"batch_size": 10**9}, {"episodes": 10**18}])
def test_absurd_settings_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be at most"):
        LearningConfig(**settings)  # type: ignore[arg-type]


def checkpoint(policy: Policy) -> PolicyCheckpoint:
    return PolicyCheckpoint(
        policy=policy,
        config={},
        dataset="toy",
        encoder="words",
        feature_names=["a", "b"],
        episode=1,
        dev_score=0.5,
        best_fixed=[0, 3],
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_policy_that_is_not_finite_is_neither_written_nor_read(tmp_path: Path, value: float) -> None:
    policy = Policy(4, 2, hidden=8)
    save_policy(tmp_path / "good.pt", checkpoint(policy))
    with torch.no_grad():
        policy.feature_layer.weight[0, 0] = value
    with pytest.raises(CheckpointError, match=r"not written, because weights\.feature_layer\.weight"):
        save_policy(tmp_path / "bad.pt", checkpoint(policy))
    assert not (tmp_path / "bad.pt").exists()
    content = torch.load(tmp_path / "good.pt", weights_only=True)
    content["weights"]["value_head.bias"][0] = value
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match=r"weights\.value_head\.bias holds numbers that are not finite"):
        load_policy(tmp_path / "bad.pt")


def test_hidden_features_are_no_fault(tmp_path: Path) -> None:
    policy = Policy(4, 2, hidden=8)
    policy.hide([1])
    save_policy(tmp_path / "policy.pt", checkpoint(policy))
    assert torch.isinf(load_policy(tmp_path / "policy.pt").policy.feature_scale[1])


def test_a_score_that_is_none_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="state"):
        save_torch(tmp_path / "state.pt", {"state": [torch.tensor([1.0, float("nan")])]})
    save_torch(tmp_path / "state.pt", {"best_score": float("-inf"), "state": torch.tensor([1])})
    assert load_torch(tmp_path / "state.pt")["best_score"] == float("-inf")


COMMANDS = [
    "--lr 1e6",
    "--lr 1e9",
    "--lr 1e12",
    "--lr 1e6 --policy mlp",
    "--lr 1e9 --observe all",
    "--lr 1e6 --estimator reinforce",
    "--lr 1e9 --estimator reinforce --baseline value",
    "--weight-decay 1e9",
    "--weight-decay 1e12 --estimator reinforce",
    "--lr 1e4 --weight-decay 1e6",
]


@pytest.mark.parametrize("typed", COMMANDS)
def test_a_command_that_diverges_says_so_and_leaves_what_was_good(shell: Shell, flags: list[str], typed: str) -> None:
    outcome = shell.train(*flags, "--episodes", 12_800, "--hidden", 16, *typed.split())
    assert outcome.code == 1
    assert re.search(r"error: training diverged after episode \d+: .*; lower --lr", outcome.err.splitlines()[-1])
    assert not list((shell.folder / "checkpoints").iterdir()), "nothing is published"
    for path in (shell.folder / "runs").rglob("*.pt"):
        assert not not_finite(torch.load(path, weights_only=True)), path
        assert path.name != "policy_final.pt"


@pytest.mark.parametrize(
    "typed", ["--lr inf", "--entropy inf", "--loss-aversion inf", "--weight-decay inf", "--lr nan"]
)
def test_flags_that_are_no_numbers_are_refused(shell: Shell, flags: list[str], typed: str) -> None:
    assert typed.split()[0] in shell.train(*flags, *typed.split()).error
    assert not (shell.folder / "runs").exists()
