"""The rules of the game, played for a whole batch of queries at once.

The live environment plays it with a batch of one, the search graph with every query of a split: one set of rules, so
the two cannot disagree. A state of a graph's build is kept as the part it added to its parent, and put together along
its path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchrl.config import FusionName
from searchrl.data.dataset import Corpus
from searchrl.env.features import (
    JUDGE_FEATURES,
    PROBE_FEATURES,
    QUERY_FEATURES,
    RANKING_FEATURES,
    REWARD_FEATURES,
    TOP,
    Probe,
    judge_features,
    probe,
    query_features,
    ranking_features,
    reward_features,
)
from searchrl.env.tree import Action, Node, Tree, build_tree
from searchrl.files import Array, Part, Parts
from searchrl.reformulate.reformulator import Direction, Reformulator
from searchrl.retrieval.fusion import fuse, mix, mix_judged
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, IntArray, Queries, Ranking
from searchrl.retrieval.retriever import Retriever
from searchrl.reward.reward_model import JudgedPool, RewardModel


@dataclass(frozen=True)
class Rules:
    """What shapes an episode, apart from models and data."""

    max_steps: int = 5
    auto_search: bool = False
    fusion: FusionName = "minmax"
    anchor: float = 0.4
    """Weight of the first ranking in the final fusion; the later ones share the rest."""
    rerank_depth: int = 0
    """Documents at the top of the final ranking that the reward model may reorder; 0 leaves it alone."""
    rerank_weight: float = 0.3
    """Share of the reward model in the reordering, 0 to 1: it is mixed in, never alone."""
    trust: tuple[float, ...] = ()
    """Shares among which the episode chooses when it ends; none: ``rerank_weight`` for all."""

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares that a final ranking can be made with."""
        return self.trust or (self.rerank_weight,)

    @property
    def tree(self) -> Tree:
        """All states that an episode can reach."""
        return build_tree(self.max_steps, self.auto_search, len(self.shares))


@dataclass(frozen=True)
class State:
    """Where a batch of n queries stands after the same sequence of actions."""

    original: Queries
    current: Queries
    rankings: tuple[Ranking, ...]
    searched: bool
    step: int
    probe: Probe | None
    seen: FloatArray
    """(n, ranking and probe features): what the last ranking showed; zeros before the first search."""
    result: FloatArray
    """(n, dim) embedding of the last ranking; zeros before the first search."""
    judged: tuple[IntArray, ...]
    """(n, k) documents after each search that the reward model has to judge: the top of the fused ranking."""

    @property
    def reward_calls(self) -> IntArray:
        """(n,) pairs that the reward model has to score for an episode that comes here."""
        return np.asarray((self.judged_once() != NO_DOCUMENT).sum(axis=1), dtype=np.int32)

    def judged_once(self, searches: int | None = None) -> IntArray:
        """(n, k) documents that the first so many searches had judged, or all, each once; ``NO_DOCUMENT`` elsewhere."""
        judged = [np.full((len(self.original), 1), NO_DOCUMENT, dtype=np.int32), *self.judged[:searches]]
        documents = np.sort(np.concatenate(judged, axis=1), axis=1)
        return np.where(np.diff(documents, axis=1, prepend=NO_DOCUMENT) != 0, documents, NO_DOCUMENT)

    def take(self, rows: NDArray[np.intp]) -> State:
        """Where the queries ``rows`` (m,) of the batch stand."""
        return replace(
            self,
            original=self.original.take(rows),
            current=self.current.take(rows),
            rankings=tuple(ranking.take(rows) for ranking in self.rankings),
            probe=Probe(self.probe.features[rows], self.probe.best_bm25[rows]) if self.probe else None,
            seen=self.seen[rows],
            result=self.result[rows],
            judged=tuple(documents[rows] for documents in self.judged),
        )


def opening(queries: Queries) -> State:
    """Where n queries stand before anything was searched."""
    width = len(RANKING_FEATURES) + len(PROBE_FEATURES)
    return State(
        original=queries,
        current=queries,
        rankings=(),
        searched=False,
        step=0,
        probe=None,
        seen=np.zeros((len(queries), width), dtype=np.float32),
        result=np.zeros_like(queries.vectors),
        judged=(),
    )


class Game:
    """Rules plus the parts they are played with. ``reward_model`` None: no reward features, no rerank."""

    def __init__(
        self,
        corpus: Corpus,
        retriever: Retriever,
        reformulator: Reformulator,
        reward_model: RewardModel | None,
        rules: Rules,
    ) -> None:
        self.corpus = corpus
        self.retriever = retriever
        self.reformulator = reformulator
        self.reward_model = reward_model
        self.rules = rules

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of an observation's features, in order."""
        names: tuple[str, ...] = RANKING_FEATURES + PROBE_FEATURES
        if self.reward_model:
            names += REWARD_FEATURES + (JUDGE_FEATURES if self.rules.trust else ())
        return names + QUERY_FEATURES

    @property
    def description(self) -> dict[str, object]:
        """Everything that shapes an episode, JSON-able: what a graph or checkpoint was made with."""
        return {
            "corpus": self.corpus.fingerprint,
            **self.retriever.description,
            "reformulator": self.reformulator.fingerprint,
            "reward_model": self.reward_model.fingerprint if self.reward_model else None,
            "rules": asdict(self.rules),
            "features": list(self.feature_names),
        }

    def start(self, texts: Sequence[str]) -> State:
        """Nothing searched yet, for n queries."""
        return opening(self.retriever.queries(texts))

    def pool(self, texts: Sequence[str]) -> JudgedPool | None:
        """An empty judged pool for these queries; None without a reward model."""
        return JudgedPool(self.reward_model, self.corpus, texts) if self.reward_model else None

    def advance(self, at: State, action: Action, exclude: IntArray) -> State:
        """Take one legal action (not TERMINATE). ``exclude`` (n,): each query's own document, -1 for none.

        The reward model has no say in where an action leads, so all of a graph's documents can be judged together.
        """
        at = replace(at, step=at.step + 1)
        if action == Action.SEARCH:
            return self._search(at, exclude)
        direction: Direction = "narrow" if action == Action.NARROW else "broaden"
        current = self.reformulator.reformulate(direction, at.original, at.current, at.rankings[-1])
        at = replace(at, current=current, searched=False)
        return self._search(at, exclude) if self.rules.auto_search else at

    def final_ranking(self, at: State, pool: JudgedPool | None, place: int = 0) -> Ranking:
        """What the user would get if the episode ended here: the episode's rankings fused, then perhaps reranked.

        place: that of the reward model's share among ``Rules.shares``.
        """
        return self.final_rankings(at, pool, [place])[0]

    def final_rankings(self, at: State, pool: JudgedPool | None, places: Sequence[int]) -> list[Ranking]:
        """The same for several shares."""
        fused = fuse(at.rankings, self.rules.fusion, self.rules.anchor)
        if pool is None or self.rules.rerank_depth == 0:
            return [fused] * len(places)
        pool.ensure(at.judged[-1])
        shares = [self.rules.shares[place] for place in places]
        if self.rules.trust:
            scores = _own_scores(at, pool, fused.documents)
            return [mix_judged(fused, scores, share) for share in shares]
        scores = pool.lookup(fused.documents[:, : self.rules.rerank_depth])
        if pool.closed:  # what nobody has judged counts neither for nor against
            known = ~np.isnan(scores)
            mean = np.where(known, scores, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
            scores = np.where(known, scores, mean[:, None]).astype(np.float32)
        return [mix(fused, scores, share, "minmax") for share in shares]

    def features(self, at: State, pool: JudgedPool | None) -> FloatArray:
        """The observation's named scalars, (n, len(feature_names))."""
        parts = [at.seen]
        if pool is not None:
            for documents in at.judged:
                pool.ensure(documents)
            first, last = (at.judged[0], at.judged[-1]) if at.judged else (_nothing(at), _nothing(at))
            parts.append(reward_features(pool.lookup(first[:, :TOP]), pool.lookup(last[:, :TOP])))
            if self.rules.trust:
                parts.append(self._judge_features(at, pool))
        parts.append(query_features(at.original, at.current, at.step, self.rules.max_steps, at.searched))
        return np.concatenate(parts, axis=1)

    def _judge_features(self, at: State, pool: JudgedPool) -> FloatArray:
        if not at.rankings:
            return np.zeros((len(at.original), len(JUDGE_FEATURES)), dtype=np.float32)
        fused = fuse(at.rankings, self.rules.fusion, self.rules.anchor)
        known, before = pool.lookup(at.judged_once()), pool.lookup(at.judged_once(len(at.judged) - 1))
        return judge_features(fused, _own_scores(at, pool, fused.documents), known, before)

    def _search(self, at: State, exclude: IntArray) -> State:
        ranking = self.retriever.search(at.current, exclude)
        rankings = (*at.rankings, ranking)
        evidence = at.probe or probe(self.retriever, at.original, exclude)
        about, result = ranking_features(self.retriever, at.original, list(rankings), evidence)
        judged = at.judged
        if self.reward_model is not None:
            fused = fuse(rankings, self.rules.fusion, self.rules.anchor)
            judged = (*judged, fused.documents[:, : max(TOP, self.rules.rerank_depth)])
        seen = np.concatenate([about, evidence.features], axis=1)
        return replace(at, rankings=rankings, searched=True, probe=evidence, result=result, seen=seen, judged=judged)


def _own_scores(at: State, pool: JudgedPool, documents: IntArray) -> FloatArray:
    """Scores of (n, k) documents; NaN for those that this episode has not judged, whatever others have."""
    judged = (documents[:, :, None] == at.judged_once()[:, None, :]).any(axis=2)
    return np.where(judged, pool.lookup(documents), np.nan).astype(np.float32)


def _nothing(at: State) -> IntArray:
    return np.full((len(at.original), 1), NO_DOCUMENT, dtype=np.int32)


def state_part(node: int) -> str:
    """Name of the part that a state adds."""
    return f"state-{node}"


def state_of(parts: Parts, tree: Tree, node: int) -> State:
    """Put a state together; the parts of the whole path to it must be there."""
    path = tree.path(node)
    at = opening(_queries(parts[state_part(path[0])]))
    for following in path[1:]:
        at = _follow(at, tree.states[following], parts[state_part(following)])
    return at


def part_of(at: State, node: Node) -> Part:
    """What reaching ``node`` added: a query unless it was a plain search, a ranking if anything was searched."""
    arrays: dict[str, Array] = {}
    facts: dict[str, Any] = {}
    if node.action != Action.SEARCH:
        query = at.current
        arrays |= {"vectors": query.vectors, "lexical": query.lexical}
        arrays |= {"weights": query.terms.data, "words": query.terms.indices, "starts": query.terms.indptr}
        facts |= {"texts": list(query.texts), "vocabulary": query.terms.shape[1]}
    if node.searched:
        arrays |= {"documents": at.rankings[-1].documents, "scores": at.rankings[-1].scores}
        arrays |= {"seen": at.seen, "result": at.result}
        if at.judged:
            arrays["judged"] = at.judged[-1]
        if at.probe and len(at.rankings) == 1:
            arrays |= {"probe": at.probe.features, "best_bm25": at.probe.best_bm25}
    return Part(arrays, facts)


def _follow(at: State, node: Node, part: Part) -> State:
    arrays = part.arrays
    at = replace(at, step=node.step, searched=node.searched)
    if node.action != Action.SEARCH:
        at = replace(at, current=_queries(part))
    if node.searched:
        at = replace(
            at,
            rankings=(*at.rankings, Ranking(arrays["documents"], arrays["scores"])),
            seen=arrays["seen"],
            result=arrays["result"],
            judged=(*at.judged, arrays["judged"]) if "judged" in arrays else at.judged,
            probe=Probe(arrays["probe"], arrays["best_bm25"]) if "probe" in arrays else at.probe,
        )
    return at


def _queries(part: Part) -> Queries:
    from scipy import sparse

    arrays, texts = part.arrays, part.facts["texts"]
    # Copied, being small: scipy may tidy a matrix in place, and a mapped array cannot be written.
    terms = [np.array(arrays[name]) for name in ("weights", "words", "starts")]
    shape = (len(texts), part.facts["vocabulary"])
    return Queries(texts, arrays["vectors"], sparse.csr_matrix(tuple(terms), shape=shape), arrays["lexical"])
