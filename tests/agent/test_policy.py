from __future__ import annotations

import pytest
import torch

from searchrl.agent.policy import HEAD_SCALE, Policy
from searchrl.env.graph import Observation
from searchrl.env.tree import N_ACTIONS

DIM, FEATURES, B = 8, 5, 6


def some(kind: str = "gru", observe: str = "all") -> Policy:
    torch.manual_seed(0)
    policy = Policy(DIM, FEATURES, kind, hidden=16, observe=observe)  # type: ignore[arg-type]
    torch.nn.init.normal_(policy.action_head.weight, std=0.5 / HEAD_SCALE)
    return policy


def observation(mask: torch.Tensor | None = None) -> Observation:
    generator = torch.Generator().manual_seed(1)
    query, result = torch.randn(2, B, DIM, generator=generator)
    features = torch.randn(B, FEATURES, generator=generator)
    return Observation(query, result, features, torch.ones(B, N_ACTIONS, dtype=torch.bool) if mask is None else mask)


@pytest.mark.parametrize("kind", ["gru", "mlp"])
@pytest.mark.parametrize("observe", ["features", "all"])
def test_the_size_is_about_half_a_million_or_lighter(kind: str, observe: str) -> None:
    size = sum(p.numel() for p in Policy(384, 31, kind, observe=observe).parameters())  # type: ignore[arg-type]
    assert size < 600_000
    assert (size > 300_000) == (kind == "gru")


@pytest.mark.parametrize("kind", ["gru", "mlp"])
def test_masked_actions_have_no_probability(kind: str) -> None:
    mask = torch.tensor([[True, False, False, False], [False, True, True, True], [True] * 4] * 2)
    policy = some(kind)
    hidden, last = policy.start(B)
    out = policy(observation(mask), last, hidden)
    probs = out.log_probs.exp()
    assert (probs > 0).equal(mask)
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(B))
    assert out.value.shape == (B,)
    assert out.hidden.shape == (B, 16)
    unmasked = policy(observation(), last, hidden).log_probs.exp()
    expected = unmasked * mask / (unmasked * mask).sum(dim=1, keepdim=True)
    torch.testing.assert_close(probs, expected)


def test_a_fresh_policy_is_near_uniform() -> None:
    torch.manual_seed(0)
    policy = Policy(DIM, FEATURES)
    hidden, last = policy.start(B)
    probs = policy(observation(), last, hidden).log_probs.exp()
    torch.testing.assert_close(probs, torch.full((B, N_ACTIONS), 0.25), atol=0.02, rtol=0)


def test_features_are_standardised() -> None:
    policy = some()
    seen = torch.randn(50, 7, FEATURES, generator=torch.Generator().manual_seed(2)) * 3 + 10
    seen[..., 4] = 2.0  # never varies
    policy.standardise(seen)
    z = (seen - policy.feature_mean) / policy.feature_scale
    torch.testing.assert_close(z.mean(dim=(0, 1)), torch.zeros(FEATURES), atol=1e-4, rtol=0)
    assert z[..., :4].std(dim=(0, 1), correction=0).tolist() == pytest.approx([1.0] * 4, abs=1e-4)
    assert torch.isfinite(z).all()
    assert policy.state_dict()["feature_mean"].equal(policy.feature_mean), "kept with the weights"


def test_scale_and_offset_of_a_feature_do_not_matter_once_standardised() -> None:
    seen = observation()
    shifted = Observation(seen.query, seen.result, seen.features * 40 - 7, seen.mask)
    outs = []
    for view in (seen, shifted):
        policy = some()
        policy.standardise(view.features)
        outs.append(policy(view, *reversed(policy.start(B))).log_probs)
    torch.testing.assert_close(outs[0], outs[1], atol=1e-4, rtol=0)


def test_an_outlier_is_clipped() -> None:
    policy = some()
    hidden, last = policy.start(B)
    seen = observation()
    far, farther = (
        Observation(seen.query, seen.result, torch.full((B, FEATURES), value), seen.mask) for value in (50.0, 5e6)
    )
    torch.testing.assert_close(policy(far, last, hidden).log_probs, policy(farther, last, hidden).log_probs)


def test_the_gru_remembers_and_the_mlp_does_not() -> None:
    differs = {}
    for kind in ("gru", "mlp"):
        policy = some(kind)
        fresh, last = policy.start(B)
        memory = torch.randn(B, 16, generator=torch.Generator().manual_seed(3))
        with_memory = policy(observation(), last, memory).log_probs
        differs[kind] = not torch.allclose(with_memory, policy(observation(), last, fresh).log_probs, atol=1e-5)
    assert differs == {"gru": True, "mlp": False}


def test_the_memory_is_that_of_a_gru_cell() -> None:
    policy = some()
    assert isinstance(policy.body, torch.nn.GRUCell)
    seen, last = observation(), policy.start(B)[1]
    memory = torch.randn(B, 16, generator=torch.Generator().manual_seed(3))
    x = torch.cat(
        [
            torch.tanh(policy.query_layer(seen.query)),
            torch.tanh(policy.result_layer(seen.result)),
            torch.relu(policy.feature_layer(seen.features)),
            policy.action_embedding(last),
        ],
        dim=1,
    )
    torch.testing.assert_close(policy(seen, last, memory).hidden, policy.body(x, memory))


@pytest.mark.parametrize("kind", ["gru", "mlp"])
def test_a_step_in_parts_over_many_states_is_the_steps_one_by_one(kind: str) -> None:
    policy = some(kind)
    first, second = observation(), Observation(**{n: v.flip(0) for n, v in vars(observation()).items()})
    both = Observation(**{n: torch.stack([v, vars(second)[n]]) for n, v in vars(first).items()})
    memory = torch.randn(B, 16, generator=torch.Generator().manual_seed(3))
    _, last = policy.start(B)
    out = policy.decide(policy.recur(policy.perceive(both, last.expand(2, -1)), memory[None]), both)
    for i, seen in enumerate((first, second)):
        alone = policy(seen, last, memory)
        for name in ("log_probs", "value", "hidden"):
            torch.testing.assert_close(getattr(out, name)[i], getattr(alone, name))


@pytest.mark.parametrize("kind", ["gru", "mlp"])
@pytest.mark.parametrize("what", ["query", "result", "features", "last action"])
def test_everything_else_that_is_shown_counts(kind: str, what: str) -> None:
    policy = some(kind)
    hidden, last = policy.start(B)
    seen = observation()
    parts = {"query": seen.query, "result": seen.result, "features": seen.features}
    changed = Observation(**{n: v.flip(1) if n == what else v for n, v in parts.items()}, mask=seen.mask)
    before = policy(seen, last, hidden).log_probs
    after = policy(changed, torch.zeros_like(last) if what == "last action" else last, hidden).log_probs
    assert not torch.allclose(before, after, atol=1e-5)


@pytest.mark.parametrize("kind", ["gru", "mlp"])
def test_a_policy_that_observes_features_does_not_see_embeddings(kind: str) -> None:
    policy = some(kind, "features")
    hidden, last = policy.start(B)
    seen = observation()
    blind = Observation(torch.zeros_like(seen.query), seen.result.flip(1), seen.features, seen.mask)
    assert policy(seen, last, hidden).log_probs.equal(policy(blind, last, hidden).log_probs)
    other = Observation(seen.query, seen.result, seen.features.flip(1), seen.mask)
    assert not torch.allclose(policy(seen, last, hidden).log_probs, policy(other, last, hidden).log_probs, atol=1e-5)


def test_before_the_first_step_there_is_no_memory_and_no_action() -> None:
    hidden, last = some().start(3)
    assert hidden.shape == (3, 16)
    assert not hidden.any()
    assert last.tolist() == [N_ACTIONS] * 3


def test_memory_is_of_the_policys_format_while_another_thread_loads_a_model() -> None:
    """``from_pretrained`` changes torch's default format for the whole process meanwhile."""
    policy, seen = some(), observation()
    torch.set_default_dtype(torch.bfloat16)
    try:
        memory, last = policy.start(B)
        out = policy(seen, last, memory)
    finally:
        torch.set_default_dtype(torch.float32)
    assert memory.dtype == out.log_probs.dtype == torch.float32
