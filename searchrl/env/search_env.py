"""``searchrl/Search-v0``: one retrieval task an episode, played live with the models, for any Gymnasium agent."""

from __future__ import annotations

import copy
import pickle
from typing import Any, NoReturn, SupportsIndex

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from searchrl.checks import whole
from searchrl.data.dataset import QuerySet
from searchrl.data.own_document import own_document
from searchrl.env.build import GAIN_DEPTH, build_graph
from searchrl.env.game import Game, State
from searchrl.env.graph import RewardRules
from searchrl.env.tree import ROOT, Action, kind
from searchrl.errors import ConfigError
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, Ranking
from searchrl.reward.gain import Judgments
from searchrl.reward.reward_model import JudgedPool

Obs = dict[str, NDArray[Any]]


class SearchEnv(gymnasium.Env[Obs, np.int64]):
    """A Gymnasium environment over one query set.

    Observation: ``query`` and ``result`` (dim,) unit vectors, ``features`` (F,) as ``Game.feature_names`` has them,
    ``mask`` (A,) int8. Actions: 0 SEARCH, 1 NARROW, 2 BROADEN, 3 TERMINATE; where an episode chooses how far the reward
    model is trusted, 3, 4, 5 ... are TERMINATE with the first, second, third ... of ``Rules.trust``, and an episode out
    of steps still takes one of these, for no step. ``info``: ``action_mask``, the query's id and text, the current
    text, and after a search the ``documents`` found.

    ``reset(options={"query": id})`` plays a given query, or raises ConfigError if there is none of that id; otherwise
    queries are drawn with the environment's seed.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 - Gymnasium declares it so

    def __init__(
        self,
        game: Game,
        queries: QuerySet,
        reward: RewardRules,
        use_mask: bool = True,
        render_mode: str | None = None,
    ) -> None:
        self.game = game
        self.queries = queries
        self.reward = reward
        self.use_mask = use_mask
        self.render_mode = render_mode
        self.tree = game.rules.tree
        self._judgments = Judgments(queries, game.corpus)
        self._own = own_document(queries, game.corpus)
        self._row = 0
        self._over: bool | None = None
        """Whether the episode has ended; None before the first."""
        self._pool: JudgedPool | None = None
        self._gains: tuple[int, NDArray[np.float32]] | None = None
        bound = 1.001 if getattr(game.retriever.encoder, "similarity", "cosine") == "cosine" else np.inf
        dim, width = game.retriever.encoder.dim, len(game.feature_names)
        self.action_space = spaces.Discrete(self.tree.n_actions)
        self.observation_space: spaces.Dict = spaces.Dict(  # type: ignore[assignment]
            {
                "query": spaces.Box(-bound, bound, (dim,), np.float32),
                "result": spaces.Box(-bound, bound, (dim,), np.float32),
                "features": spaces.Box(-1e6, 1e6, (width,), np.float32),
                "mask": spaces.Box(0, 1, (self.tree.n_actions,), np.int8),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Begin an episode with a drawn query, or the one that ``options["query"]`` names."""
        super().reset(seed=seed)
        if options and "query" in options:
            self._row = self._row_of(options["query"])
        else:
            self._row = int(self.np_random.integers(len(self.queries)))
        text = [self.queries.texts[self._row]]
        self._pool = self.game.pool(text)
        self._at: State = self.game.start(text)
        self._node = ROOT
        self._steps = 0
        self._over = False
        return self._observe(), self._info()

    def step(self, action: np.int64 | int) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Take one action. An illegal one changes nothing and costs its step."""
        self._begun("step")
        if self._over:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset() before step()")
        number = self._number(action)
        chosen, steps = kind(number), self.game.rules.max_steps
        paid = self._steps < steps
        self._steps += paid
        terminated = chosen == Action.TERMINATE and (bool(self.tree.legal[self._node, number]) or not self.use_mask)
        following = int(self.tree.children[self._node, number])
        if following >= 0:
            if chosen != Action.TERMINATE:
                own = self._own[self._row : self._row + 1]
                self._at = self.game.advance(self._at, chosen, own, self._pool)
            self._node = following
        # Where there is a choice left, how far to trust, an episode out of steps makes it first.
        out_of_steps = self._steps >= steps and (self.tree.n_shares == 1 or not paid)
        truncated = out_of_steps and (not terminated or not paid)
        terminated = terminated and not truncated
        self._over = terminated or truncated
        reward = -self.reward.step_penalty * paid + (self._end_gain() - self._judging() if self._over else 0.0)
        return self._observe(), reward, terminated, truncated, self._info()

    def action_masks(self) -> NDArray[np.bool_]:
        """Legal actions, (4,) bool, under the name sb3-contrib's MaskablePPO asks for."""
        self._begun("action_masks")
        return self.tree.legal[self._node].copy() if self.use_mask else np.ones(self.tree.n_actions, dtype=bool)

    def final_ranking(self) -> Ranking | None:
        """What the episode has found so far, fused: (1, depth) documents and scores; None before the first search."""
        self._begun("final_ranking")
        if not self._at.rankings:
            return None
        return self.game.final_ranking(self._at, self._pool, int(self.tree.share[self._node]))

    def render(self) -> str:
        """The episode so far, a line a fact."""
        final = self.final_ranking()
        found = [] if final is None else [self.game.corpus.ids[d] for d in final.documents[0, :5] if d >= 0]
        return f"step {self._steps}: {self._at.current.texts[0]!r} -> {', '.join(found) or 'nothing yet'}"

    def __deepcopy__(self, memo: dict[int, Any]) -> SearchEnv:
        """A copy in the same situation that goes on by itself; it shares models and data, which never change."""
        other: SearchEnv = object.__new__(type(self))
        memo[id(self)] = other
        other.__dict__.update(self.__dict__)
        other._pool = copy.copy(self._pool)
        for name in ("action_space", "observation_space", "_np_random"):
            setattr(other, name, copy.deepcopy(getattr(self, name), memo))
        return other

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise pickle.PicklingError(
            "a search environment holds loaded models, which do not go into a pickle: make it anew with "
            "gymnasium.make() where it is needed, or copy it within the process with copy.deepcopy()"
        )

    def _number(self, action: object) -> int:
        """An action's id, whatever holds the number. Raises Gymnasium's InvalidAction on anything else."""
        try:
            number = whole("action", action, 0)
        except ConfigError:
            number = -1
        if not 0 <= number < self.tree.n_actions:
            most = self.tree.n_actions - 1
            raise gymnasium.error.InvalidAction(f"action {action!r:.60}: must be a whole number from 0 to {most}")
        return number

    def _begun(self, call: str) -> None:
        if self._over is None:
            raise gymnasium.error.ResetNeeded(f"there is no episode yet: call reset() before {call}()")

    def _row_of(self, query_id: str) -> int:
        ids = list(self.queries.ids)
        if query_id not in ids:
            raise ConfigError(
                f"reset(options={{'query': {query_id!r}}}): no such query among the {len(ids)} played here"
            )
        return ids.index(query_id)

    def _observe(self) -> Obs:
        features = self.game.features(self._at, self._pool)[0]
        features[self.game.feature_names.index("step")] = self._steps / self.game.rules.max_steps
        return {
            "query": self._at.current.vectors[0].copy(),  # the caller keeps what it is shown
            "result": self._at.result[0].copy(),
            "features": features,
            "mask": self.action_masks().astype(np.int8),
        }

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = {
            "action_mask": self.action_masks().astype(np.int8),
            "query_id": self.queries.ids[self._row],
            "query": self.queries.texts[self._row],
            "current_query": self._at.current.texts[0],
        }
        if self._at.rankings:
            found = self._at.rankings[-1].documents[0]
            info["documents"] = [self.game.corpus.ids[d] for d in found if d >= 0]
        return info

    def _judging(self) -> float:
        """What is taken off for documents that were judged."""
        return self.reward.judge_penalty * float(self._at.reward_calls[0])

    def _end_gain(self) -> float:
        if not self._at.rankings:
            return -self.reward.empty_penalty
        if self.reward.source != "qrels" or self.reward.baseline == "single_pass":
            gains = self._graph_gains()
            single = float(gains[self.tree.ends[0]]) if self.reward.baseline == "single_pass" else 0.0
            return float(gains[self._node]) - single
        final = self.final_ranking()
        assert final is not None
        found = final.documents[0, :GAIN_DEPTH]
        everyone = np.full((len(self.queries), len(found)), NO_DOCUMENT, dtype=DOCUMENT)
        everyone[self._row] = found
        return float(self._judgments.gain(everyone, GAIN_DEPTH)[self._row])

    def _graph_gains(self) -> NDArray[np.float32]:
        """Gain of ending in each state, (states,): a pooled ideal needs every document the query could have met."""
        if self._gains is None or self._gains[0] != self._row:
            graph = build_graph(self.game, self.queries.only([self._row]))
            self._gains = (self._row, graph.state_gains(self.reward.source)[0])
        return self._gains[1]
