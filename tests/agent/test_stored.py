"""What a run keeps on disk and reads again: refused where it is not what was written."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from searchrl.agent.checkpoint import load_policy, load_torch, save_torch
from searchrl.agent.run_dir import RunDir, append_metrics, check_seal, open_run, read_metrics, seal
from searchrl.config import OutputConfig, TrainConfig
from searchrl.config_file import read_config
from searchrl.errors import CheckpointError, ConfigError

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "pydocs.pt"


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    return one == other


def refused_or_same(path: Path, read: Callable[[Path], object], flips: int) -> int:
    """Flip single bits of a file; it must be refused, or read as if nothing were. Returns how often it was refused."""
    content, draw, refused = path.read_bytes(), random.Random(0), 0
    before = read(path)
    for _ in range(flips):
        path.write_bytes(flipped(content, draw.randrange(8 * len(content))))
        try:
            found = read(path)
        except (CheckpointError, ConfigError):
            refused += 1
        else:
            assert same(found, before)
    path.write_bytes(content)
    return refused


def test_bit_flips_in_a_state_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_torch(path, {"weights": {"a": torch.randn(40, 10)}, "episode": 640, "seal": "{}"})
    assert refused_or_same(path, load_torch, 300) > 200


def test_bit_flips_in_a_policy_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.pt"
    path.write_bytes(SHIPPED.read_bytes())

    def read(path: Path) -> object:
        found = load_policy(path)
        return {"weights": dict(found.policy.state_dict()), "facts": repr(replace(found, policy=None))}  # type: ignore[arg-type]

    assert refused_or_same(path, read, 40) > 35


def test_bit_flips_in_settings_are_refused(tmp_path: Path) -> None:
    path = run_of(tmp_path).config
    assert refused_or_same(path, read_config, 300) > 200
    content = path.read_text()
    path.write_text(content.replace('"lr": 0.0003', '"lr": 0.3'))
    with pytest.raises(ConfigError, match="damaged, or changed by hand; then remove its line sha256"):
        read_config(path)
    changed = json.loads(path.read_text())
    del changed["sha256"]
    path.write_text(json.dumps(changed))
    assert read_config(path).learning.lr == 0.3


def run_of(tmp_path: Path, **inputs: str) -> RunDir:
    config = TrainConfig(output=OutputConfig(run_name="a", runs_dir=tmp_path))
    return open_run(config, inputs={"documents of d": "1", **inputs})


def test_metrics_and_settings_are_sealed_with_the_state(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    append_metrics(run, {"episode": 64, "return": 0.5})
    sealed = json.loads(json.dumps(seal(run)))
    append_metrics(run, {"episode": 128})
    check_seal(run, sealed)
    (line,) = run.metrics.read_text().splitlines()
    assert json.loads(line)["episode"] == 64, "what came after the state is cut"
    for path in (run.metrics, run.config):
        content = path.read_bytes()
        for bad in (flipped(content, 40), content[:-3], b"", b"\xff" * 9):
            path.write_bytes(bad)
            with pytest.raises(CheckpointError, match="damaged, or changed since"):
                check_seal(run, sealed)
        path.unlink()
        with pytest.raises(CheckpointError, match="damaged, or changed since"):
            check_seal(run, sealed)
        path.write_bytes(content)
    check_seal(run, {})  # of an earlier version


def test_curves_are_not_read_from_damaged_metrics(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    append_metrics(run, {"episode": 64, "return": 0.5})
    save_torch(run.state, {"seal": json.dumps(seal(run))})
    assert json.loads(read_metrics(run)) == {"episode": 64, "return": 0.5}
    run.metrics.write_bytes(run.metrics.read_bytes().replace(b"0.5", b"0.7"))
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: damaged"):
        read_metrics(run)


def test_a_run_is_not_resumed_on_other_data(tmp_path: Path) -> None:
    run_of(tmp_path, **{"train queries of d": "2"})
    config = TrainConfig(output=OutputConfig(run_name="a", runs_dir=tmp_path, resume=True))
    data = {"documents of d": "1", "train queries of d": "2"}
    assert open_run(config, inputs=data).path.name == "a"
    with pytest.raises(CheckpointError, match="the data changed since: train queries of d; restore it"):
        open_run(config, inputs={**data, "train queries of d": "3"})
    with pytest.raises(CheckpointError, match="documents of d, documents of e, train queries of d"):
        open_run(config, inputs={"documents of e": "1"})


def test_a_refused_resume_names_the_nearest_run(tmp_path: Path) -> None:
    for name, dataset in (("mine", "scifact"), ("another", "fiqa")):
        config = TrainConfig(output=OutputConfig(run_name=name, runs_dir=tmp_path))
        open_run(replace(config, data=replace(config.data, dataset=dataset)))
    config = TrainConfig(output=OutputConfig(runs_dir=tmp_path, resume=True))
    asked = replace(config, data=replace(config.data, dataset="scifact"), learning=replace(config.learning, lr=0.01))
    with pytest.raises(CheckpointError, match=r"no run of these settings .*mine comes nearest.*learning\.lr"):
        open_run(asked)
