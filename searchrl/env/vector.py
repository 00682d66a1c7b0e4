"""``searchrl/Search-v0`` as a vector environment: many episodes side by side on a search graph, no model and no loop.

Step for step what as many ``SearchEnv`` in Gymnasium's ``SyncVectorEnv`` show, seeds included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from searchrl.env.graph import GraphTensors, RewardRules, SearchGraph
from searchrl.env.tree import ROOT, Action
from searchrl.errors import ConfigError

Obs = dict[str, NDArray[Any]]


class VectorSearchEnv(gymnasium.vector.VectorEnv[Obs, NDArray[np.int64], NDArray[Any]]):
    """b episodes over one graph's queries; spaces and actions as ``SearchEnv`` has them, with b in front.

    An episode that has ended begins anew with the next step, whose action is ignored and whose reward is 0
    (``AutoresetMode.NEXT_STEP``). ``info`` has ``action_mask`` (b, A) and ``query_id`` (b,). Queries are drawn with the
    seeds ``seed``, ``seed + 1`` ...; ``reset(options={"query": [id, ...]})`` plays given ones.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012 - as Gymnasium has it

    def __init__(
        self, num_envs: int, graph: SearchGraph, reward: RewardRules, use_mask: bool = True, similarity: str = "cosine"
    ) -> None:
        self.num_envs = num_envs
        self.graph = GraphTensors(graph, reward, use_mask)
        self._ids = np.array(graph.query_ids, dtype=object)
        self._place = {query_id: row for row, query_id in enumerate(graph.query_ids)}
        actions, bound = graph.tree.n_actions, 1.001 if similarity == "cosine" else np.inf
        self.single_action_space = spaces.Discrete(actions)
        self.single_observation_space: spaces.Dict = spaces.Dict(
            {
                "query": spaces.Box(-bound, bound, (graph.dim,), np.float32),
                "result": spaces.Box(-bound, bound, (graph.dim,), np.float32),
                "features": spaces.Box(-1e6, 1e6, (len(graph.feature_names),), np.float32),
                "mask": spaces.Box(0, 1, (actions,), np.int8),
            }
        )
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._drawn: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Begin b episodes. Raises ConfigError where ``options["query"]`` is not b ids of queries played here."""
        if seed is not None or not self._drawn:
            first = [None] * self.num_envs if seed is None else seed
            seeds = [first + i for i in range(self.num_envs)] if isinstance(first, int) else list(first)
            self._drawn = [gymnasium.utils.seeding.np_random(one)[0] for one in seeds]
        asked = list((options or {}).get("query", ()))
        if asked and (len(asked) != self.num_envs or any(one not in self._place for one in asked)):
            raise ConfigError(
                f"reset(options={{'query': ...}}): {self.num_envs} ids of queries played here are expected"
            )
        self._rows = torch.tensor([self._place[one] for one in asked] if asked else self._draw(self._drawn))
        self._nodes = torch.full((self.num_envs,), ROOT)
        self._steps = torch.zeros(self.num_envs, dtype=torch.long)
        self._over = torch.zeros(self.num_envs, dtype=torch.bool)
        return self._seen()

    def step(self, actions: NDArray[np.int64]) -> tuple[Obs, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Take an action in every episode. An illegal one changes nothing and costs its step."""
        if not self._drawn:
            raise gymnasium.error.ResetNeeded("there is no episode yet: call reset() before step()")
        chosen = torch.as_tensor(np.asarray(actions), dtype=torch.long)
        if chosen.shape != (self.num_envs,) or not bool(((chosen >= 0) & (chosen < self.graph.tree.n_actions)).all()):
            most = self.graph.tree.n_actions - 1
            raise gymnasium.error.InvalidAction(f"{self.num_envs} actions from 0 to {most} are expected")
        graph, over, most_steps = self.graph, self._over, self.graph.max_steps
        paid = (self._steps < most_steps) & ~over
        self._steps += paid
        ends = chosen >= Action.TERMINATE
        if graph.use_mask:
            ends = ends & graph.legal[self._nodes, chosen]
        following = graph.children[self._nodes, chosen]
        self._nodes = torch.where(~over & (following >= 0), following, self._nodes)
        # Where there is a choice left, how far to trust, an episode out of steps makes it first.
        out_of_steps = self._steps >= most_steps
        if graph.tree.n_shares > 1:
            out_of_steps = out_of_steps & ~paid
        truncated = ~over & out_of_steps & (~ends | ~paid)
        terminated = ~over & ends & ~truncated
        reward = torch.where(terminated | truncated, graph.end_gain[self._rows, self._nodes].double(), 0.0)
        reward -= graph.rules.step_penalty * paid
        self._begin_anew(over)
        self._over = terminated | truncated
        seen, info = self._seen()
        return seen, reward.numpy(), terminated.numpy(), truncated.numpy(), info

    def _begin_anew(self, over: torch.Tensor) -> None:
        places = over.nonzero()[:, 0]
        self._rows[places] = torch.tensor(self._draw([self._drawn[i] for i in places.tolist()]), dtype=torch.long)
        self._nodes[places] = ROOT
        self._steps[places] = 0

    def _draw(self, generators: Sequence[np.random.Generator]) -> list[int]:
        return [int(one.integers(self.graph.size)) for one in generators]

    def _seen(self) -> tuple[Obs, dict[str, Any]]:
        seen = self.graph.observe(self._rows, self._nodes, self._steps)
        seen.features[:, self.graph.step_feature] = self._steps / self.graph.max_steps  # illegal ones cost steps
        mask = seen.mask.numpy().astype(np.int8)
        everywhere = np.ones(self.num_envs, dtype=np.bool_)
        info = {"action_mask": mask.copy(), "query_id": self._ids[self._rows.numpy()]}
        info |= {f"_{name}": everywhere for name in tuple(info)}
        observed = {"query": seen.query, "result": seen.result, "features": seen.features}
        return {name: value.numpy() for name, value in observed.items()} | {"mask": mask}, info
