"""Vectors and term weights of documents, read from Milvus once: those used last stay in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from searchrl.errors import CacheError
from searchrl.retrieval.milvus.server import AT_ONCE, Server
from searchrl.retrieval.ranking import FloatArray
from searchrl.threads import one_at_a_time

KEPT = 1 << 15
"""Documents in memory: some 80 MB with vectors of 384 numbers."""


class Row(NamedTuple):
    """One document."""

    vector: FloatArray
    columns: NDArray[np.int32]
    """Of its terms, in order."""
    weights: FloatArray


class Rows:
    """Reads documents of one collection. Raises CacheError where one is missing."""

    def __init__(self, server: Server, collection: str, vocabulary: int) -> None:
        self._server, self._collection, self._vocabulary = server, collection, vocabulary
        self._kept: OrderedDict[int, Row] = OrderedDict()

    @one_at_a_time
    def get(self, documents: Iterable[int]) -> dict[int, Row]:
        """Some documents, by their places."""
        wanted = sorted(set(documents))
        found = {place: self._kept[place] for place in wanted if place in self._kept}
        missing = [place for place in wanted if place not in found]
        for start in range(0, len(missing), AT_ONCE):  # decoded as they come: an answer takes far more room than a row
            part = missing[start : start + AT_ONCE]
            rows = self._server.rows(self._collection, part, ["vector", "terms"])
            if lost := [place for place in part if place not in rows]:
                where = f"{self._server.uri}, {self._collection}"
                raise CacheError(f"{where}: document {lost[0]} is not there; index the corpus again")
            found.update((place, self._row(row)) for place, row in rows.items())
        self._kept.update(found)
        for place in found:
            self._kept.move_to_end(place)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    def vectors(self, documents: NDArray[np.integer[Any]]) -> FloatArray:
        """Vectors of documents of any shape, (*shape, dim)."""
        places, which = np.unique(documents, return_inverse=True)
        found = self.get(places.tolist())
        distinct: FloatArray = np.stack([found[place].vector for place in places.tolist()])
        return np.asarray(distinct[which.reshape(documents.shape)], dtype=np.float32)

    def terms(self, documents: NDArray[np.integer[Any]]) -> Any:
        """Weights of every term of documents (m,), CSR (m, vocabulary)."""
        from scipy import sparse

        found = self.get(documents.tolist())
        rows = [found[place] for place in documents.tolist()]
        starts = np.concatenate([[0], np.cumsum([len(row.columns) for row in rows])]).astype(np.int64)
        columns = np.concatenate([np.zeros(0, np.int32), *(row.columns for row in rows)])
        weights = np.concatenate([np.zeros(0, np.float32), *(row.weights for row in rows)])
        return sparse.csr_matrix((weights, columns, starts), shape=(len(rows), self._vocabulary))

    def bm25(self, terms: Any, documents: NDArray[np.int64]) -> FloatArray:
        """BM25 of documents (m,) for one row of term weights, (m,): added up term by term, as ``LexicalIndex`` does."""
        found = self.get(documents.tolist())
        rows = [found[place] for place in documents.tolist()]
        scores = np.zeros(len(rows), dtype=np.float32)
        if not rows:
            return scores
        places = np.repeat(np.arange(len(rows)), [len(row.columns) for row in rows])
        columns = np.concatenate([row.columns for row in rows])
        weights = np.concatenate([row.weights for row in rows])
        for column, weight in zip(terms.indices.tolist(), terms.data, strict=True):
            here = columns == column
            scores[places[here]] += np.float32(weight) * weights[here]
        return scores

    def _row(self, row: dict[str, Any]) -> Row:
        known = sorted((int(column), weight) for column, weight in row["terms"].items() if column < self._vocabulary)
        columns, weights = [column for column, _ in known], [weight for _, weight in known]
        vector = np.array(row["vector"], dtype=np.float32)
        return Row(vector, np.array(columns, dtype=np.int32), np.array(weights, dtype=np.float32))
