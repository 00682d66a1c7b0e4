"""From queries down the tag tree to documents: a beam search to tags, level by level, by cosine or a reward model; of
the documents of these tags the most promising are scored exactly, and only those.

What a document is worth is estimated from its tags alone before its own vector is looked at, as PLAID does with the
centroids of its tokens (Santhanam et al. 2022): each tag that was reached counts by how far its cosine with the query
lies above the middle one, and the sum is divided by the number of the document's tags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from searchrl.retrieval.fusion import z_scores
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, FloatArray, IntArray, Ranking
from searchrl.retrieval.tagtree.tree import NOTHING, TagTree
from searchrl.reward.reward_model import RewardModel, checked_scores

BLOCK_CELLS = 1 << 25
"""Numbers gathered at once: 128 MB of float32."""

Guide = Callable[[IntArray, FloatArray], FloatArray]
"""Says how good each query's clusters are: (n, k) nodes and their cosines -> (n, k), the higher the better. Where a row
has no more nodes, they are ``NOTHING``, and cosine and result -inf."""

LEAST_EVIDENCE = 1e-3
"""What a tag counts that lies below the middle: its documents were reached all the same."""

SHARE = 0.1
"""Share of the documents that is scored unless told otherwise, ``FOR_ONE`` for each that is wanted at least."""
FOR_ONE = 2

AT_ONCE = 256
"""Queries that walk together."""

MakeGuide = Callable[[Sequence[int]], Guide]
"""The guide of some of the queries, by their places."""


@dataclass(frozen=True)
class Walk:
    """What n queries found on their way.

    tags: (n, width) int32, the tags that were reached, ``NOTHING`` past the end. scores: (n, width) float32, their
    cosines with the query, -inf there. compared: (n,) nodes that a query was compared with, tags among them.
    """

    tags: IntArray
    scores: FloatArray
    compared: IntArray


def walk(tree: TagTree, queries: FloatArray, beam_width: int, guide: Guide | None = None) -> Walk:
    """Walk from the root; of each level's clusters each query follows the ``beam_width`` best.

    queries: (n, dim) unit vectors. A cluster is as good as its cosine with the query, or as ``guide``
    says. Every tag in a cluster that was followed is reached.
    """
    n = len(queries)
    beam = np.zeros((n, 1), dtype=np.int32)
    tags, found, compared = [np.empty((n, 0), np.int32)], [np.empty((n, 0), np.float32)], np.zeros(n, dtype=np.int32)
    while (beam != NOTHING).any():
        children = _children(tree, beam)
        scores = _cosines(tree.vectors, queries, children)
        compared += (children != NOTHING).sum(axis=1, dtype=np.int32)
        own = np.where(children == NOTHING, NOTHING, tree.tag[children])
        reached = own != NOTHING
        tags.append(own)
        found.append(np.where(reached, scores, -np.inf).astype(np.float32))
        clusters = np.where(reached, NOTHING, children)
        goodness = np.where(clusters == NOTHING, -np.inf, scores)
        if guide is not None:
            goodness = guide(clusters, goodness)
        best = np.argsort(-goodness, axis=1, kind="stable")[:, :beam_width]
        beam = np.take_along_axis(clusters, best, axis=1)
    reached_tags, cosines = np.concatenate(tags, axis=1), np.concatenate(found, axis=1)
    order = np.argsort(-cosines, axis=1, kind="stable")  # best first, empty columns cut off
    width = int((reached_tags != NOTHING).sum(axis=1).max(initial=0))
    return Walk(
        np.take_along_axis(reached_tags, order, axis=1)[:, :width],
        np.take_along_axis(cosines, order, axis=1)[:, :width],
        compared,
    )


class RewardGuide:
    """Mixes a reward model's scores of (query, a cluster's representative tags) with the cosines, as z-scores.

    texts: the queries that walk, in order. weight: the reward model's share, 0 to 1. All clusters that the queries meet
    on a level are scored in one call, a pair once.
    """

    def __init__(self, tree: TagTree, reward_model: RewardModel, texts: Sequence[str], weight: float) -> None:
        self._tree, self._reward, self._texts, self._weight = tree, reward_model, texts, weight

    def __call__(self, clusters: IntArray, cosines: FloatArray) -> FloatArray:
        """See ``Guide``."""
        there = clusters != NOTHING
        rows, columns = np.nonzero(there)
        if not len(rows):
            return cosines
        met = zip(rows.tolist(), clusters[rows, columns].tolist(), strict=True)
        pairs = [(self._texts[row], self._tree.name(node)) for row, node in met]
        distinct = list(dict.fromkeys(pairs))
        scores = checked_scores(self._reward, [query for query, _ in distinct], [name for _, name in distinct])
        known = dict(zip(distinct, scores.tolist(), strict=True))
        judged = np.full(cosines.shape, -np.inf, dtype=np.float32)
        judged[rows, columns] = [known[pair] for pair in pairs]
        mixed = self._weight * z_scores(judged, there) + (1 - self._weight) * z_scores(cosines, there)
        return np.where(there, mixed, -np.inf).astype(np.float32)


@dataclass(frozen=True)
class Found:
    """The documents of n queries, and what it took.

    ranking: best first, by cosine. walk: the tags on the way. scored: (n,) documents whose cosine was computed.
    """

    ranking: Ranking
    walk: Walk
    scored: IntArray


def candidates_for(k: int, documents: int) -> int:
    """Documents to score where nobody says how many."""
    return min(documents, max(FOR_ONE * k, round(SHARE * documents)))


class TagTreeRetriever:
    """Finds documents by way of their tags. vectors: (documents, dim) unit rows, may be mapped from disk."""

    def __init__(self, tree: TagTree, vectors: FloatArray) -> None:
        self.tree, self.vectors = tree, vectors
        self._tags_of_document = np.maximum(tree.tags_of_document, 1).astype(np.float32)

    def search(
        self,
        queries: FloatArray,
        k: int,
        exclude: IntArray,
        *,
        beam_width: int,
        candidates: int,
        guide: MakeGuide | None = None,
    ) -> Found:
        """The k best of up to ``candidates`` documents for each query.

        queries: (n, dim). exclude: (n,) a document that is not to be returned, negative for none. A query whose beam
        reaches fewer than k documents walks again with one twice as wide, until it does or there are no more.
        """
        n = len(queries)
        documents = np.full((n, k), NO_DOCUMENT, dtype=DOCUMENT)
        cosines = np.full((n, k), -np.inf, dtype=np.float32)
        scored, compared = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int32)
        tags: list[tuple[IntArray, FloatArray]] = [(np.empty(0, np.int32), np.empty(0, np.float32))] * n
        todo = [(np.arange(start, min(start + AT_ONCE, n)), beam_width) for start in range(0, n, AT_ONCE)]
        while todo:
            rows, width = todo.pop()
            way = walk(self.tree, queries[rows], width, guide(rows.tolist()) if guide else None)
            compared[rows] += way.compared
            evidence = self._evidence(way, exclude[rows])
            enough = (np.diff(evidence.indptr) >= k) | (width >= self.tree.leaves)
            for place in np.flatnonzero(enough).tolist():
                row = int(rows[place])
                chosen = _best(evidence, place, max(candidates, k))
                values = np.asarray(self.vectors[chosen] @ queries[row], dtype=np.float32)
                best = np.lexsort((chosen, -values))[:k]
                documents[row, : len(best)], cosines[row, : len(best)] = chosen[best], values[best]
                scored[row] = len(chosen)
                tags[row] = way.tags[place], way.scores[place]
            if not enough.all():
                todo.append((rows[~enough], 2 * width))
        return Found(Ranking(documents, cosines), _side_by_side(tags, compared), scored)

    def _evidence(self, way: Walk, exclude: IntArray) -> Any:
        """What the reached tags say of each document: (n, documents) CSR, above 0 where a document was reached."""
        from scipy import sparse

        there = way.tags != NOTHING
        middle = np.nanmedian(np.where(there, way.scores, np.nan), axis=1, keepdims=True)
        counts = np.maximum(way.scores - middle, LEAST_EVIDENCE)[there]
        indptr = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
        reached = sparse.csr_matrix((counts, way.tags[there], indptr), shape=(len(there), len(self.tree.tags)))
        evidence = (reached @ self.tree.documents).tocsr()
        evidence.data /= self._tags_of_document[evidence.indices]
        rows = np.repeat(np.arange(len(there)), np.diff(evidence.indptr))
        evidence.data[evidence.indices == exclude[rows]] = 0.0
        evidence.eliminate_zeros()
        return evidence


def _best(evidence: Any, row: int, count: int) -> IntArray:
    """The documents of one row with most evidence, in the order of the corpus, as their vectors are read fastest."""
    span = slice(evidence.indptr[row], evidence.indptr[row + 1])
    documents, values = evidence.indices[span], evidence.data[span]
    return np.sort(documents[np.lexsort((documents, -values))[:count]]).astype(DOCUMENT)


def _side_by_side(tags: Sequence[tuple[IntArray, FloatArray]], compared: IntArray) -> Walk:
    width = max((len(own) for own, _ in tags), default=0)
    names = np.full((len(tags), width), NOTHING, dtype=np.int32)
    scores = np.full((len(tags), width), -np.inf, dtype=np.float32)
    for row, (own, values) in enumerate(tags):
        names[row, : len(own)], scores[row, : len(own)] = own, values
    return Walk(names, scores, compared)


def _children(tree: TagTree, beam: IntArray) -> IntArray:
    """The children of each row's nodes, side by side, (n, k)."""
    counts = np.where(beam == NOTHING, 0, tree.count[beam])
    steps = np.arange(max(1, int(counts.max())), dtype=np.int32)
    nodes = np.where(steps < counts[:, :, None], tree.first[beam][:, :, None] + steps, NOTHING)
    return nodes.reshape(len(beam), -1).astype(np.int32)


def _cosines(vectors: FloatArray, queries: FloatArray, nodes: IntArray) -> FloatArray:
    """The cosine of each row's query with each of its nodes, (n, k); -inf where there is none."""
    scores = np.empty(nodes.shape, dtype=np.float32)
    height = max(1, BLOCK_CELLS // max(1, nodes.shape[1] * vectors.shape[1]))
    for start in range(0, len(nodes), height):
        rows = slice(start, start + height)
        scores[rows] = np.matmul(vectors[nodes[rows]], queries[rows, :, None])[:, :, 0]
    scores[nodes == NOTHING] = -np.inf
    return scores
