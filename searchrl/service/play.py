"""A trained policy at play with live models, on a batch of queries: those that took the same actions go on together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchrl.agent.policy import Policy
from searchrl.env.actions import N_ACTIONS, Action
from searchrl.env.batched import Observation
from searchrl.env.features import Probe
from searchrl.env.game import Game, Situation
from searchrl.env.scores import ScoreBook
from searchrl.env.tree import ROOT, Tree, build_tree
from searchrl.retrieval.ranking import NO_DOCUMENT, Queries, Ranking

Rows = NDArray[np.intp]


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


@dataclass
class Episode:
    """What the agent did for one query, and the ranking it came to."""

    steps: list[Step] = field(default_factory=list)
    final: Ranking | None = None
    """(1, depth)"""


@dataclass(frozen=True)
class _Group:
    """Queries that took the same actions so far."""

    node: int
    rows: Rows
    """Which of the batch's episodes these are."""
    at: Situation
    book: ScoreBook | None
    memory: Tensor
    last: Tensor

    def take(self, which: Rows, game: Game) -> _Group:
        """Some of them."""
        if len(which) == len(self.rows):
            return self
        at = _take_situation(self.at, which)
        book = _take_book(self.book, game, at.original.texts, which)
        return _Group(self.node, self.rows[which], at, book, self.memory[which], self.last[which])


@torch.no_grad()
def play_live(policy: Policy, game: Game, texts: Sequence[str]) -> list[Episode]:
    """Play the most probable legal action at every step, for each query; the same episodes that the search graph holds.

    An episode ends where the policy terminates it, or at ``max_steps``. Illegal actions are never taken, even by a
    policy that was trained without the mask.
    """
    episodes = [Episode() for _ in texts]
    if not texts:
        return episodes
    tree = build_tree(game.rules.max_steps, game.rules.auto_search)
    memory, last = policy.start(len(texts))
    groups = [_Group(ROOT, np.arange(len(texts)), game.start(texts), game.book(texts), memory, last)]
    while groups:
        groups = [after for group in groups for after in _step(policy, game, tree, group, episodes)]
    return episodes


def _step(policy: Policy, game: Game, tree: Tree, group: _Group, episodes: list[Episode]) -> list[_Group]:
    """Let every episode of a group take its action; returns those that go on."""
    if tree.step[group.node] >= tree.max_steps:
        _end(game, group, episodes)
        return []
    out = policy(_observe(game, tree, group), group.last, group.memory)
    chosen = out.log_probs.argmax(dim=1)
    probabilities = out.log_probs.exp().numpy()
    group = replace(group, memory=out.hidden, last=chosen)
    going_on = []
    for action in Action:
        which = np.flatnonzero(chosen.numpy() == action)
        if not len(which):
            continue
        part = group.take(which, game)
        if action != Action.TERMINATE:
            nobody = np.full(len(which), NO_DOCUMENT, dtype=np.int32)
            at = game.advance(part.at, action, nobody)
            part = replace(part, node=int(tree.children[part.node, action]), at=at)
            going_on.append(part)
        searched = action == Action.SEARCH or (game.rules.auto_search and action != Action.TERMINATE)
        similarity = np.einsum("nd,nd->n", part.at.original.vectors, part.at.current.vectors)
        legal = tree.legal[group.node]
        for i, row in enumerate(part.rows):
            step = Step(
                action=action,
                probabilities={a.name.lower(): float(probabilities[which[i], a]) for a in Action if legal[a]},
                query=part.at.current.texts[i],
                lexical_share=float(part.at.current.lexical[i]),
                similarity=float(similarity[i]),
                ranking=part.at.rankings[-1].row(i) if searched else None,
            )
            episodes[row].steps.append(step)
        if action == Action.TERMINATE:
            _end(game, part, episodes)
    return going_on


def _end(game: Game, group: _Group, episodes: list[Episode]) -> None:
    final = game.final_ranking(group.at, group.book)
    for i, row in enumerate(group.rows):
        episodes[row].final = final.row(i)


def _observe(game: Game, tree: Tree, group: _Group) -> Observation:
    legal = torch.from_numpy(tree.legal[group.node].copy())
    return Observation(
        torch.from_numpy(group.at.current.vectors),
        torch.from_numpy(group.at.result),
        torch.from_numpy(game.features(group.at, group.book)),
        legal.expand(len(group.rows), N_ACTIONS),
    )


def _take_situation(at: Situation, which: Rows) -> Situation:
    return replace(
        at,
        original=_take_queries(at.original, which),
        current=_take_queries(at.current, which),
        rankings=tuple(Ranking(r.documents[which], r.scores[which]) for r in at.rankings),
        probe=Probe(at.probe.features[which], at.probe.best_bm25[which]) if at.probe else None,
        seen=at.seen[which],
        result=at.result[which],
        judged=tuple(documents[which] for documents in at.judged),
    )


def _take_queries(queries: Queries, which: Rows) -> Queries:
    texts = [queries.texts[i] for i in which]
    return Queries(texts, queries.vectors[which], queries.terms[which], queries.lexical[which])


def _take_book(book: ScoreBook | None, game: Game, texts: Sequence[str], which: Rows) -> ScoreBook | None:
    """What the reward model said about some of the queries, so that it is not asked again."""
    smaller = game.book(texts)
    if book is None or smaller is None:
        return None
    documents, known = book.pools()
    pool, scores = documents[which], known[which]
    rows, columns = np.nonzero(pool != NO_DOCUMENT)
    smaller.learn(rows.astype(np.int64) * len(game.corpus) + pool[rows, columns], scores[rows, columns])
    return smaller
