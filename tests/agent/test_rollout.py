"""Episodes side by side, the policy looking once at what many of them share, are episodes one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from searchrl.agent.policy import Policy
from searchrl.agent.rollout import Episodes, play
from searchrl.env.graph import BatchedSearchEnv, GraphTensors, RewardRules
from tests.agent.conftest import PolicyMaker
from tests.toy import toy_graph

GRAPH = toy_graph(n=6)
ROWS = torch.tensor([4, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 5, 0])
RULES = RewardRules("qrels", 0.02)


def played(policy: Policy, graph: GraphTensors, seed: int) -> Episodes:
    generator = torch.Generator().manual_seed(seed)
    return play(policy, graph, ROWS, lambda p: torch.multinomial(p.exp(), 1, generator=generator)[:, 0])


def alone(policy: Policy, graph: GraphTensors, row: Tensor, actions: Tensor) -> dict[str, list[Tensor]]:
    """One episode that takes the given actions."""
    env = BatchedSearchEnv(graph)
    seen = env.reset(row[None])
    hidden, last = policy.start(1)
    found: dict[str, list[Tensor]] = {"log_probs": [], "entropy": [], "values": [], "rewards": [], "choice": []}
    for action in actions:
        if bool(env.done[0]):
            break
        out = policy(seen, last, hidden)
        legal = out.log_probs[0][seen.mask[0]]
        hidden, last = out.hidden, action[None]
        found["choice"].append(torch.tensor(len(legal) > 1))
        seen, reward, _ = env.step(last)
        found["log_probs"].append(out.log_probs[0, action])
        found["entropy"].append(-(legal.exp() * legal).sum())
        found["values"].append(out.value[0])
        found["rewards"].append(reward[0])
    assert bool(env.done[0])
    return found | {"ends": [env.nodes[0]]}


@pytest.mark.parametrize("use_mask", [True, False])
@pytest.mark.parametrize("kind", ["gru", "mlp"])
def test_each_episode_is_as_if_played_alone(decided_policy: PolicyMaker, kind: str, use_mask: bool) -> None:
    policy = decided_policy(GraphTensors(GRAPH, RULES), kind)
    graph = GraphTensors(GRAPH, RULES, use_mask)
    together = played(policy, graph, seed=1)
    lengths = together.running.sum(dim=0)
    assert len(lengths.unique()) > 1, "some end early"
    for i, row in enumerate(ROWS):
        one = alone(policy, graph, row, together.actions[:, i])
        steps = len(one["rewards"])
        assert int(lengths[i]) == steps
        assert together.running[:steps, i].all()
        assert not together.rewards[steps:, i].any()
        assert not together.choice[steps:, i].any()
        torch.testing.assert_close(together.ends[i], one.pop("ends")[0])
        for name, values in one.items():
            torch.testing.assert_close(getattr(together, name)[:steps, i], torch.stack(values))


def test_gradients_are_those_of_the_episodes_one_by_one(decided_policy: PolicyMaker) -> None:
    graph = GraphTensors(GRAPH, RULES)
    policy = decided_policy(graph)

    def gradient(log_prob: Tensor) -> Tensor:
        found = torch.autograd.grad(log_prob, list(policy.parameters()), allow_unused=True)
        return torch.cat([g.flatten() for g in found if g is not None])

    together = played(policy, graph, seed=1)
    apart = [alone(policy, graph, row, together.actions[:, i])["log_probs"] for i, row in enumerate(ROWS)]
    expected = gradient(torch.cat([torch.stack(steps) for steps in apart]).sum())
    found = gradient((together.log_probs * together.running).sum())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("use_mask", [True, False])
def test_the_policy_looks_at_each_situation_once(decided_policy: PolicyMaker, use_mask: bool) -> None:
    policy = decided_policy(GraphTensors(GRAPH, RULES))
    looks: list[int] = []
    policy.register_forward_pre_hook(lambda _, inputs: looks.append(len(inputs[1])))
    episodes = played(policy, GraphTensors(GRAPH, RULES, use_mask), seed=2)
    for step, rows in enumerate(looks):
        running = episodes.running[step]
        distinct = {
            (int(row), *past.tolist())
            for row, past, runs in zip(ROWS, episodes.actions[:step].T, running, strict=True)
            if runs
        }
        assert rows == len(distinct) + int(not running.all()), "and at the ended ones, all together, once"
