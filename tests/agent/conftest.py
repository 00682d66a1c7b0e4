from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from searchrl.agent.policy import Policy
from searchrl.agent.rollout import walk
from searchrl.config import PolicyName
from searchrl.env.graph import GraphTensors

PolicyMaker = Callable[..., Policy]


@pytest.fixture(scope="session")
def decided_policy() -> PolicyMaker:
    """``decided_policy(graph, kind)``: a small random policy, the same every time, neither uniform nor certain."""

    def make(graph: GraphTensors, kind: PolicyName = "gru", hidden: int = 4) -> Policy:
        torch.manual_seed(5)
        policy = Policy(
            graph.query_vectors.shape[-1], graph.features.shape[-1], kind, hidden, actions=graph.tree.n_actions
        )
        with torch.no_grad():
            seen = walk(policy, graph, torch.arange(graph.size))
            here = seen.log_probs[:, seen.choice][..., 1:]
            here = here.masked_fill(here == float("-inf"), float("nan"))
            centred = here - here.nanmean(dim=2, keepdim=True)
            policy.action_head.weight *= 0.7 / centred[~centred.isnan()].std()
        return policy

    return make
