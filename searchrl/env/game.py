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
    PROBE_FEATURES,
    QUERY_FEATURES,
    RANKING_FEATURES,
    REWARD_FEATURES,
    TOP,
    Probe,
    probe,
    query_features,
    ranking_features,
    reward_features,
)
from searchrl.env.tree import Action, Node, Tree, build_tree
from searchrl.files import Array, Part, Parts
from searchrl.reformulate.reformulator import Direction, Judged, Reformulator
from searchrl.retrieval.fusion import fuse, mix
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, FloatArray, IntArray, Queries, Ranking, as_stored
from searchrl.retrieval.retriever import Retriever
from searchrl.reward.gain import calibrate
from searchrl.reward.reward_model import JudgedPool, RewardModel


@dataclass(frozen=True)
class Rules:
    """What shapes an episode, apart from models and data."""

    max_steps: int = 5
    auto_search: bool = False
    fusion: FusionName = "minmax"
    anchor: float = 0.4
    """Weight of the first ranking in the final fusion; the later ones share the rest."""
    judge_depth: int = 10
    """Documents at the top of what was found so far that the reward model judges after each search."""
    trust: tuple[float, ...] = (0.0,)
    """Shares of the reward model in the final ranking, 0 to 1, among which the episode chooses when it ends."""

    @property
    def tree(self) -> Tree:
        """All states that an episode can reach."""
        return build_tree(self.max_steps, self.auto_search, len(self.trust))


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
        judged = [np.full((len(self.original), 1), NO_DOCUMENT, dtype=DOCUMENT), *self.judged[:searches]]
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
            names += REWARD_FEATURES
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

    def advance(self, at: State, action: Action, exclude: IntArray, pool: JudgedPool | None = None) -> State:
        """Take one legal action (not TERMINATE). ``exclude`` (n,): each query's own document, -1 for none.

        pool: what the reward model said, for a reformulation; what it has not judged yet of ``at.judged`` it judges.
        """
        at = replace(at, step=at.step + 1)
        if action == Action.SEARCH:
            return self._search(at, exclude)
        direction: Direction = "narrow" if action == Action.NARROW else "broaden"
        judged = self._judged(at, pool)
        current = self.reformulator.reformulate(direction, at.original, at.current, at.rankings[-1], judged)
        at = replace(at, current=current, searched=False)
        return self._search(at, exclude) if self.rules.auto_search else at

    def _judged(self, at: State, pool: JudgedPool | None) -> Judged | None:
        """All that the episode has judged, with its gains."""
        if pool is None or self.reward_model is None:
            return None
        documents = at.judged_once()
        pool.ensure(documents)
        scores = pool.lookup(documents)
        gains = np.where(np.isnan(scores), np.nan, calibrate(scores, self.reward_model.absolute))
        return Judged(documents, gains.astype(np.float32))

    def final_ranking(self, at: State, pool: JudgedPool | None, place: int = 0) -> Ranking:
        """What the user would get if the episode ended here: the episode's rankings fused, the reward model mixed in.

        place: that of the reward model's share among ``Rules.trust``.
        """
        return self.final_rankings(at, pool, [place])[0]

    def final_rankings(self, at: State, pool: JudgedPool | None, places: Sequence[int]) -> list[Ranking]:
        """The same for several shares."""
        fused = fuse(at.rankings, self.rules.fusion, self.rules.anchor)
        if pool is None or not any(self.rules.trust):
            return [fused] * len(places)
        pool.ensure(at.judged_once())
        scores = _own_scores(at, pool, fused.documents)
        return [mix(fused, scores, self.rules.trust[place]) for place in places]

    def features(self, at: State, pool: JudgedPool | None) -> FloatArray:
        """The observation's named scalars, (n, len(feature_names))."""
        parts = [at.seen]
        if pool is not None:
            parts.append(self._reward_features(at, pool))
        writes = self.reformulator.lm_calls > 0
        parts.append(query_features(at.original, at.current, at.step, self.rules.max_steps, at.searched, writes))
        return np.concatenate(parts, axis=1)

    def _reward_features(self, at: State, pool: JudgedPool) -> FloatArray:
        if not at.rankings:
            return np.zeros((len(at.original), len(REWARD_FEATURES)), dtype=np.float32)
        pool.ensure(at.judged_once())
        fused = fuse(at.rankings, self.rules.fusion, self.rules.anchor)
        known, before = pool.lookup(at.judged_once()), pool.lookup(at.judged_once(len(at.judged) - 1))
        first = pool.lookup(at.judged[0][:, :TOP])
        return reward_features(fused, _own_scores(at, pool, fused.documents), first, known, before)

    def _search(self, at: State, exclude: IntArray) -> State:
        ranking = self.retriever.search(at.current, exclude)
        rankings = (*at.rankings, ranking)
        evidence = at.probe or probe(self.retriever, at.original, exclude)
        about, result = ranking_features(self.retriever, at.original, list(rankings), evidence)
        judged = at.judged
        if self.reward_model is not None:
            fused = fuse(rankings, self.rules.fusion, self.rules.anchor)
            judged = (*judged, fused.documents[:, : self.rules.judge_depth])
        seen = np.concatenate([about, evidence.features], axis=1)
        return replace(at, rankings=rankings, searched=True, probe=evidence, result=result, seen=seen, judged=judged)


def _own_scores(at: State, pool: JudgedPool, documents: IntArray) -> FloatArray:
    """Scores of (n, k) documents; NaN for those that this episode has not judged, whatever others have."""
    judged = (documents[:, :, None] == at.judged_once()[:, None, :]).any(axis=2) & (documents != NO_DOCUMENT)
    scores = np.where(judged, pool.lookup(documents), np.nan)
    if pool.closed:  # what there was no time to judge counts neither for nor against
        known = ~np.isnan(scores)
        mean = np.where(known, scores, 0.0).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
        scores = np.where(judged & ~known & known.any(axis=1, keepdims=True), mean, scores)
    return scores.astype(np.float32)


def state_part(node: int, block: int) -> str:
    """Name of the part that a state of a block of queries adds."""
    return f"state-{node}-{block}"


def state_of(parts: Parts, tree: Tree, node: int, block: int) -> State:
    """Put a state together; the parts of the whole path to it must be there."""
    path = tree.path(node)
    at = opening(_queries(parts[state_part(path[0], block)]))
    for following in path[1:]:
        at = _follow(at, tree.states[following], parts[state_part(following, block)])
    return at


def part_of(at: State, node: Node, corpus: int) -> Part:
    """What reaching ``node`` added: a query unless it was a plain search, a ranking if anything was searched.

    corpus: documents that there are.
    """
    arrays: dict[str, Array] = {}
    facts: dict[str, Any] = {}
    if node.action != Action.SEARCH:
        query = at.current
        arrays |= {"vectors": query.vectors, "lexical": query.lexical}
        arrays |= {"weights": query.terms.data, "words": query.terms.indices, "starts": query.terms.indptr}
        facts |= {"texts": list(query.texts), "vocabulary": query.terms.shape[1]}
    if node.searched:
        arrays |= {"documents": as_stored(at.rankings[-1].documents, corpus), "scores": at.rankings[-1].scores}
        arrays |= {"seen": at.seen, "result": at.result}
        if at.judged:
            arrays["judged"] = as_stored(at.judged[-1], corpus)
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
