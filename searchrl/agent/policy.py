"""The policy: a GRU over the episode so far, or an MLP on the present alone, with action and value heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from searchrl.config import ObservedName, PolicyName
from searchrl.env.graph import Observation
from searchrl.env.tree import N_ACTIONS
from searchrl.errors import DivergedError

HEAD_SCALE = 20.0
"""Factor on the logits. Ten thousand episodes are 156 updates; without it Adam's steps at the usual learning rate are
too small for the policy to tell queries apart before it has settled on one answer for all."""


class PolicyOutput(NamedTuple):
    """What the policy says about b episodes."""

    log_probs: Tensor
    """(b, A) log-probabilities; -inf where the mask forbids."""
    value: Tensor
    """(b,) expected return from here."""
    hidden: Tensor
    """(b, hidden) memory to hand to the next step."""


class Policy(nn.Module):
    """Maps an observation, the last action and the memory to action probabilities and a value.

    ``observe``: the features alone, or all, the embeddings too. With embeddings a policy learns a few hundred training
    queries by heart, and what a collection is about does not say how to search another. Features are standardised with
    the training queries' mean and spread, kept in the checkpoint.
    """

    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(
        self,
        dim: int,
        n_features: int,
        kind: PolicyName = "gru",
        hidden: int = 256,
        observe: ObservedName = "features",
        actions: int = N_ACTIONS,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.kind = kind
        self.hidden_size = hidden
        self.observe = observe
        self.actions = actions
        self.register_buffer("feature_mean", torch.zeros(n_features))
        self.register_buffer("feature_scale", torch.ones(n_features))
        width = 128 + 16
        if observe == "all":
            self.query_layer = nn.Linear(dim, 64)
            self.result_layer = nn.Linear(dim, 64)
            width += 64 + 64
        self.feature_layer = nn.Linear(n_features, 128)
        self.action_embedding = nn.Embedding(actions + 1, 16)
        self.body: nn.Module = nn.GRUCell(width, hidden) if kind == "gru" else nn.Linear(width, hidden)
        self.action_head = nn.Linear(hidden + n_features, actions)
        self.value_head = nn.Linear(hidden, 1)
        # Start near uniform: what is explored first should not depend on the initial weights.
        nn.init.orthogonal_(self.action_head.weight, gain=0.001)
        nn.init.zeros_(self.action_head.bias)

    def standardise(self, features: Tensor) -> None:
        """Take the mean and spread of (..., F) training features for all later standardisation.

        What was constant in training says nothing, whatever it is later.
        """
        flat = features.reshape(-1, features.shape[-1]).float()
        self.feature_mean.copy_(flat.mean(dim=0))
        spread = flat.std(dim=0, correction=0)
        self.feature_scale.copy_(spread.clamp(min=1e-3).masked_fill(spread < 1e-6, float("inf")))

    def hide(self, features: Sequence[int]) -> None:
        """Make the policy blind to some features, by their places; call it after ``standardise``."""
        self.feature_scale[list(features)] = float("inf")

    def start(self, batch: int) -> tuple[Tensor, Tensor]:
        """Memory (b, hidden) and last action (b,) before the first step."""
        device = self.feature_mean.device
        last = torch.full((batch,), self.actions, dtype=torch.long, device=device)
        # Not torch's default format, which another thread may have changed: transformers does while it loads a model.
        return torch.zeros(batch, self.hidden_size, dtype=self.feature_mean.dtype, device=device), last

    def forward(self, seen: Observation, last_action: Tensor, hidden: Tensor) -> PolicyOutput:
        """One step for b episodes; ``last_action`` (b,) int64, the number of actions before the first."""
        return self.decide(self.recur(self.perceive(seen, last_action), hidden), seen)

    def perceive(self, seen: Observation, last_action: Tensor) -> Tensor:
        """First part of a step: what the body makes of the present alone, (..., width), for any number of states."""
        parts = [torch.relu(self.feature_layer(self._standardised(seen.features))), self.action_embedding(last_action)]
        if self.observe == "all":
            parts = [torch.tanh(self.query_layer(seen.query)), torch.tanh(self.result_layer(seen.result)), *parts]
        x = torch.cat(parts, dim=-1)
        if isinstance(self.body, nn.GRUCell):
            return nn.functional.linear(x, self.body.weight_ih, self.body.bias_ih)
        present: Tensor = self.body(x)
        return present

    def recur(self, present: Tensor, hidden: Tensor) -> Tensor:
        """Second part: the new memory (..., hidden), from what was perceived and the old memory; the two broadcast.

        The equations are those of ``nn.GRUCell``, less the part that ``perceive`` has done.
        """
        if not isinstance(self.body, nn.GRUCell):
            return torch.tanh(present)
        past = nn.functional.linear(hidden, self.body.weight_hh, self.body.bias_hh)
        (reset, keep, new), (past_reset, past_keep, past_new) = present.chunk(3, dim=-1), past.chunk(3, dim=-1)
        candidate = torch.tanh(new + torch.sigmoid(reset + past_reset) * past_new)
        return candidate + torch.sigmoid(keep + past_keep) * (hidden - candidate)

    def decide(self, hidden: Tensor, seen: Observation) -> PolicyOutput:
        """Third part: action probabilities and value, from the new memory and the features.

        Raises DivergedError where weights are so large that there are none.
        """
        logits = HEAD_SCALE * self.action_head(torch.cat([hidden, self._standardised(seen.features)], dim=-1))
        if not torch.isfinite(logits).all():
            raise DivergedError("the policy's action probabilities are not finite")
        logits = logits.masked_fill(~seen.mask, float("-inf"))
        return PolicyOutput(torch.log_softmax(logits, dim=-1), self.value_head(hidden).squeeze(-1), hidden)

    def _standardised(self, features: Tensor) -> Tensor:
        return ((features - self.feature_mean) / self.feature_scale).clamp(-5.0, 5.0)
