"""From the tags that a walk reached to documents: the most promising are scored exactly, and only those.

What a document is worth is estimated from its tags alone before its own vector is looked at, as PLAID does with the
centroids of its tokens (Santhanam et al. 2022): each tag that was reached counts by how far its cosine with the query
lies above the middle one, and the sum is divided by the number of the document's tags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, IntArray, Ranking
from searchrl.retrieval.tagtree.tree import NOTHING, TagTree
from searchrl.retrieval.tagtree.walk import Guide, Walk, walk

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
        documents = np.full((n, k), NO_DOCUMENT, dtype=np.int32)
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
                found, values = self._scored(queries[row], chosen, k)
                documents[row, : len(found)], cosines[row, : len(found)] = found, values
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

    def _scored(self, query: FloatArray, chosen: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        """The k of these documents with the highest cosine, equal ones by the lower index."""
        cosines = np.asarray(self.vectors[chosen] @ query, dtype=np.float32)
        best = np.lexsort((chosen, -cosines))[:k]
        return chosen[best], cosines[best]


def _best(evidence: Any, row: int, count: int) -> IntArray:
    """The documents of one row with most evidence, in the order of the corpus, as their vectors are read fastest."""
    span = slice(evidence.indptr[row], evidence.indptr[row + 1])
    documents, values = evidence.indices[span], evidence.data[span]
    return np.sort(documents[np.lexsort((documents, -values))[:count]]).astype(np.int32)


def _side_by_side(tags: Sequence[tuple[IntArray, FloatArray]], compared: IntArray) -> Walk:
    width = max((len(own) for own, _ in tags), default=0)
    names = np.full((len(tags), width), NOTHING, dtype=np.int32)
    scores = np.full((len(tags), width), -np.inf, dtype=np.float32)
    for row, (own, values) in enumerate(tags):
        names[row, : len(own)], scores[row, : len(own)] = own, values
    return Walk(names, scores, compared)
