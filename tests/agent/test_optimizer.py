"""The optimizer takes torch's own steps, to the bit, and goes on where it was saved."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from searchrl.agent.optimizer import AdamW


def network() -> torch.nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Linear(5, 3)


def step(layer: torch.nn.Linear, optimizer: AdamW | torch.optim.Optimizer, turn: int) -> None:
    optimizer.zero_grad()
    x = torch.linspace(-1, 1 + turn, 20).reshape(4, 5)
    (layer(x) ** 2).mean().backward()
    optimizer.step()


def test_the_same_bits_as_torchs() -> None:
    ours, torchs = network(), network()
    mine = AdamW(ours.parameters(), 1e-2, 0.1)
    other = torch.optim.AdamW(torchs.parameters(), lr=1e-2, weight_decay=0.1, fused=True)
    for turn in range(6):
        mine.lr = other.param_groups[0]["lr"] = 1e-2 / (1 + turn)
        step(ours, mine, turn)
        step(torchs, other, turn)
    for one, two in zip(ours.parameters(), torchs.parameters(), strict=True):
        assert torch.equal(one, two)
    assert mine.state_dict()["state"].keys() == other.state_dict()["state"].keys()


def test_it_goes_on_from_its_state_and_from_torchs() -> None:
    layer = network()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2, weight_decay=0.1, fused=True)
    step(layer, optimizer, 0)
    other = network()
    other.load_state_dict(layer.state_dict())
    first, second = (AdamW(other.parameters(), 1.0, 0.0) for _ in range(2))
    first.load_state_dict(optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    step(layer, optimizer, 1)
    step(other, second, 1)
    assert torch.equal(layer.weight, other.weight)


def test_a_state_of_another_network_is_refused() -> None:
    optimizer = AdamW(network().parameters(), 1e-2, 0.1)
    layer = torch.nn.Linear(4, 3)
    step_of = AdamW(layer.parameters(), 1e-2, 0.1)
    layer(torch.ones(1, 4)).sum().backward()
    step_of.step()
    with pytest.raises(ValueError, match="another network"):
        optimizer.load_state_dict(step_of.state_dict())


def test_training_imports_no_compiler() -> None:
    code = (
        "import sys, torch; from searchrl.agent import trainer; from searchrl.device import seed_everything;"
        "seed_everything(1); weight = torch.ones(2, requires_grad=True); optimizer = trainer.AdamW([weight], .1, .1);"
        "weight.sum().backward(); optimizer.step(); assert torch.are_deterministic_algorithms_enabled();"
        "print([m for m in ('torch._dynamo', 'torch._inductor', 'sympy', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
