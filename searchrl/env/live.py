"""A policy at play with live models, on a batch of queries: those that took the same actions go on together."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchrl.env.game import Game, State
from searchrl.env.graph import Observation
from searchrl.env.tree import ROOT, Action, Tree, kind
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, IntArray, Ranking
from searchrl.reward.reward_model import JudgedPool

Rows = NDArray[np.intp]


class Decision(Protocol):
    """What a player says about b episodes."""

    @property
    def log_probs(self) -> Tensor:
        """(b, A) log-probabilities; -inf where the mask forbids."""
        ...

    @property
    def hidden(self) -> Tensor:
        """(b, ...) memory to hand to the next step."""
        ...


class Player(Protocol):
    """Whoever chooses the actions: a trained policy, or anything else that keeps its memory in tensors."""

    def start(self, batch: int, /) -> tuple[Tensor, Tensor]:
        """Memory (b, ...) and last action (b,) before the first step."""
        ...

    def __call__(self, seen: Observation, last_action: Tensor, memory: Tensor, /) -> Decision:
        """One step for b episodes."""
        ...


@dataclass(frozen=True)
class Step:
    """One action of one episode, and what came of it."""

    action: Action
    probabilities: dict[str, float]
    """Of every action that was possible, by name."""
    query: str
    """The query as it stands after the action."""
    lexical_share: float
    """How much BM25 joins the embeddings in its ranking, 0 to 1."""
    similarity: float
    """Cosine of its embedding with that of the original query."""
    ranking: Ranking | None
    """What it found, (1, depth), if the action searched."""
    trust: float | None = None
    """The reward model's share in the final ranking, if the action is a TERMINATE that chose it."""


@dataclass
class Episode:
    """What the agent did for one query, and the ranking it came to."""

    steps: list[Step] = field(default_factory=list)
    final: Ranking | None = None
    """(1, depth)"""


@dataclass(frozen=True)
class _Group:
    """Episodes that took the same actions so far; ``rows`` says which of the batch's these are."""

    node: int
    rows: Rows
    at: State
    pool: JudgedPool | None
    memory: Tensor
    last: Tensor

    def take(self, which: Rows) -> _Group:
        """Some of them."""
        if len(which) == len(self.rows):
            return self
        pool = self.pool.take(which) if self.pool else None
        return _Group(self.node, self.rows[which], self.at.take(which), pool, self.memory[which], self.last[which])


@dataclass(frozen=True)
class ToJudge:
    """What has to be judged before a play can go on."""

    pool: JudgedPool
    pairs: NDArray[np.int64]
    """As the pool numbers them, the most promising first."""


Playing = Generator[ToJudge, bool, list[Episode]]
"""A play: it asks for judgments, is told whether to go on or to end at once, and comes to its episodes."""


def play_live(policy: Player, game: Game, texts: Sequence[str]) -> list[Episode]:
    """Play the most probable legal action at every step, for each query; the same episodes that the search graph holds.

    An episode ends where the policy terminates it, or at ``max_steps``. Illegal actions are never taken, even by a
    policy that was trained without the mask.
    """
    playing = play_in_turns(policy, game, texts)
    try:
        wanted = next(playing)
        while True:
            pairs = np.sort(wanted.pairs)
            wanted.pool.learn(pairs, wanted.pool.score(pairs))
            wanted = playing.send(True)
    except StopIteration as end:
        episodes: list[Episode] = end.value
        return episodes


def play_in_turns(policy: Player, game: Game, texts: Sequence[str]) -> Playing:
    """As ``play_live``, but nothing is judged here: whoever drives the play lets the pool learn what it asks for.

    Told to end, every episode ends where it is, with the best ranking so far; what is unknown of the pool is ignored.
    """
    episodes = [Episode() for _ in texts]
    if not texts:
        return episodes
    tree = game.rules.tree
    memory, last = policy.start(len(texts))
    groups = [_Group(ROOT, np.arange(len(texts)), game.start(texts), game.pool(texts), memory, last)]
    while groups:
        following: list[_Group] = []
        for place, group in enumerate(groups):
            for documents in _wanted(game, tree, group):
                assert group.pool
                if len(pairs := group.pool.missing(documents)) and not (yield ToJudge(group.pool, pairs)):
                    for rest in (*groups[place:], *following):
                        _stop(game, rest, episodes)
                    return episodes
            following += _step(policy, game, tree, group, episodes)
        groups = following
    return episodes


def _wanted(game: Game, tree: Tree, group: _Group) -> Sequence[IntArray]:
    """What the policy looks at, each (n, k) documents; at the end, what may be reordered."""
    if group.pool is None:
        return ()
    if tree.step[group.node] < tree.max_steps or tree.n_shares > 1:
        return group.at.judged
    return group.at.judged if any(game.rules.trust) else ()


def _stop(game: Game, group: _Group, episodes: list[Episode]) -> None:
    if group.pool:
        group.pool.closed = True
    _end(game, group, episodes)


@torch.no_grad()
def _step(policy: Player, game: Game, tree: Tree, group: _Group, episodes: list[Episode]) -> list[_Group]:
    """Let every episode of a group take its action; returns those that go on."""
    if tree.step[group.node] >= tree.max_steps and tree.n_shares == 1:
        _end(game, group, episodes)
        return []
    out = policy(_observe(game, tree, group), group.last, group.memory)
    chosen = out.log_probs.argmax(dim=1)
    probabilities = out.log_probs.exp().numpy()
    group = replace(group, memory=out.hidden, last=chosen)
    legal = tree.legal[group.node]
    going_on = []
    for place in range(tree.n_actions):
        which = np.flatnonzero(chosen.numpy() == place)
        if not len(which):
            continue
        part, action = group.take(which), kind(place)
        if action != Action.TERMINATE:
            nobody = np.full(len(which), NO_DOCUMENT, dtype=DOCUMENT)
            at = game.advance(part.at, action, nobody, part.pool)
            part = replace(part, node=int(tree.children[part.node, action]), at=at)
            going_on.append(part)
        searched = action == Action.SEARCH or (game.rules.auto_search and action != Action.TERMINATE)
        similarity = np.einsum("nd,nd->n", part.at.original.vectors, part.at.current.vectors)
        for i, row in enumerate(part.rows):
            step = Step(
                action=action,
                probabilities=by_action(probabilities[which[i]], legal),
                query=part.at.current.texts[i],
                lexical_share=float(part.at.current.lexical[i]),
                similarity=float(similarity[i]),
                ranking=part.at.rankings[-1].row(i) if searched else None,
                trust=game.rules.trust[place - action] if part.pool and action == Action.TERMINATE else None,
            )
            episodes[row].steps.append(step)
        if action == Action.TERMINATE:
            _end(game, part, episodes, place - action)
    return going_on


def by_action(probabilities: NDArray[np.float32], legal: NDArray[np.bool_]) -> dict[str, float]:
    """Probability of each legal action by name; TERMINATE's with all its arguments together."""
    ends = float(probabilities[Action.TERMINATE :].sum())
    return {a.name.lower(): ends if a == Action.TERMINATE else float(probabilities[a]) for a in Action if legal[a]}


def _end(game: Game, group: _Group, episodes: list[Episode], place: int = 0) -> None:
    final = game.final_ranking(group.at, group.pool, place)
    for i, row in enumerate(group.rows):
        episodes[row].final = final.row(i)


def _observe(game: Game, tree: Tree, group: _Group) -> Observation:
    legal = torch.from_numpy(tree.legal[group.node].copy())
    return Observation(
        torch.from_numpy(group.at.current.vectors),
        torch.from_numpy(group.at.result),
        torch.from_numpy(game.features(group.at, group.pool)),
        legal.expand(len(group.rows), tree.n_actions),
    )
