"""A corpus in Milvus as an ``Index``: Milvus names candidates, their scores are computed here from what it stores.

So a score is the same bits as in memory, and a ranking too, unless vectors are searched approximately (HNSW).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchrl.retrieval.analysis import Analyser, QueryTerms
from searchrl.retrieval.dense import RESERVE, pair_products, rounding
from searchrl.retrieval.hybrid import Mixture, scaled_words
from searchrl.retrieval.milvus.facts import Facts
from searchrl.retrieval.milvus.rows import Rows
from searchrl.retrieval.milvus.server import MOST, Hits, Server
from searchrl.retrieval.ranking import FloatArray, IntArray, Queries, Ranking
from searchrl.retrieval.refined import Candidates, refined

SLACK = np.float32(1e-5)
"""By how much Milvus's BM25, a share of it, and a scaled score may be off."""
HYBRID = 2048
"""Documents that each leg of a hybrid search names at most, or 4 times the depth. To prove that nothing is missing can
take far more; what is enough, on pydocs and scifact to depth 100, is 400."""
NOBODY: Hits = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))]


class MilvusIndex:
    """One collection. Document numbers are places in the corpus."""

    def __init__(self, server: Server, collection: str, facts: Facts) -> None:
        self.server, self.collection, self.facts = server, collection, facts
        statistics = facts.statistics
        self._rows = Rows(server, collection, len(statistics.vocabulary))
        self._queries = QueryTerms(Analyser(), statistics.vocabulary)

    def __len__(self) -> int:
        return self.facts.statistics.documents

    @property
    def description(self) -> Mapping[str, object]:
        """That it is Milvus, and how it searches vectors."""
        return {"index": f"milvus-1 {self.facts.kind}"}

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Term -> its column."""
        return self.facts.statistics.vocabulary

    @property
    def idf(self) -> NDArray[np.float64]:
        """(vocabulary,) inverse document frequency of each term."""
        return self.facts.statistics.idf

    def query_terms(self, texts: Sequence[str]) -> Any:
        """Term counts of texts, CSR (len(texts), vocabulary)."""
        return self._queries(texts)

    def terms(self, documents: IntArray) -> Any:
        """Weights of every term of documents (m,), CSR (m, vocabulary)."""
        return self._rows.terms(documents)

    def vectors(self, documents: IntArray) -> FloatArray:
        """Vectors of documents of any shape, (*shape, dim)."""
        return self._rows.vectors(documents)

    def texts(self, documents: IntArray) -> list[str]:
        """Title and text of documents (m,)."""
        found = self.read(documents.tolist())
        return [f"{found[place][1]} {found[place][2]}".strip() for place in documents.tolist()]

    def read(self, places: Sequence[int]) -> dict[int, tuple[str, str, str]]:
        """Id, title and text of documents."""
        rows = self.server.rows(self.collection, sorted(set(places)), ["key", "title", "text"])
        return {place: (row["key"], row["title"], row["text"]) for place, row in rows.items()}

    def nearest(self, vectors: FloatArray, k: int, exclude: IntArray) -> Ranking:
        """The k documents with the highest inner product."""
        slack = rounding(vectors, self.facts.longest)

        def ask(rows: NDArray[np.intp], width: int) -> list[Candidates]:
            hits = self._by_vector(vectors[rows], width)
            self._read(hits)
            found = []
            for row, (documents, scores) in zip(rows.tolist(), hits, strict=True):
                exact = _without(documents, exclude[row], self._cosines(vectors[row], documents))
                found.append(Candidates(documents, exact, self._others(scores, width) + float(slack[row])))
            return found

        return refined(ask, len(vectors), k, self._most)

    def lexical(self, terms: Any, k: int, exclude: IntArray) -> Ranking:
        """BM25 alone; no document that shares no word."""

        def ask(rows: NDArray[np.intp], width: int) -> list[Candidates]:
            hits = self._by_terms([terms[row] for row in rows.tolist()], width)
            self._read(hits)
            found = []
            for row, (documents, scores) in zip(rows.tolist(), hits, strict=True):
                exact = _without(documents, exclude[row], self._rows.bm25(terms[row], documents))
                others = self._others(scores, width)
                found.append(Candidates(documents, exact, others + float(SLACK) * abs(others)))
            return found

        return refined(ask, terms.shape[0], k, self._most)

    def hybrid(self, queries: Queries, k: int, exclude: IntArray) -> Ranking:
        """Cosine and BM25, scaled by the true extremes of the cosine; BM25's lowest is 0, or that of all documents."""
        lowest = self._lowest(queries.vectors, exclude)

        def ask(rows: NDArray[np.intp], width: int) -> list[Candidates]:
            near = self._by_vector(queries.vectors[rows], width)
            said = self._by_terms([queries.terms[row] for row in rows.tolist()], width)
            self._read([*near, *said])
            legs = zip(rows.tolist(), near, said, strict=True)
            return [self._mixed(queries.row(row), int(exclude[row]), lowest[row], a, b, width) for row, a, b in legs]

        return refined(ask, len(queries), k, min(max(HYBRID, 4 * k), self._most))

    def _mixed(self, query: Queries, own: int, lowest: np.float32, near: Any, said: Any, width: int) -> Candidates:
        documents = np.union1d(near[0], said[0])
        documents = documents[documents != own]
        if not len(documents):
            return Candidates(documents, np.zeros(0, dtype=np.float32), -np.inf)
        cosines, bm25 = self._cosines(query.vectors[0], documents), self._rows.bm25(query.terms, documents)
        everything = len(documents) + (own >= 0) == len(self)
        low = min(lowest, cosines.min())
        mixture = Mixture(query.lexical[:, None], np.array([low]), np.array([cosines.max() - low]))
        share, least = float(query.lexical[0]), float(bm25.min()) if everything else 0.0
        row = np.zeros(1, dtype=np.intp)
        words = scaled_words(bm25, least, float(bm25.max()), share)
        scores = mixture.scores(cosines[None], words[None], row)[0]
        if everything:
            return Candidates(documents, scores, -np.inf)
        # What neither leg has named lies below the last of both.
        cosine = self._others(near[1], width) if self._others(near[1], width) > -np.inf else float(cosines.max())
        word = max(self._others(said[1], width), 0.0)
        bound = scaled_words(np.array([word], dtype=np.float32), least, float(bm25.max()), share)
        others = mixture.scores(np.array([[cosine]], dtype=np.float32), bound[None], row)[0, 0]
        slack = rounding(query.vectors, self.facts.longest)[0] / mixture.unit[0] + SLACK
        return Candidates(documents, scores, float(others + slack))

    def _lowest(self, vectors: FloatArray, exclude: IntArray) -> FloatArray:
        """(n,) the lowest inner product of each vector with a document that may be returned."""
        hits = self._by_vector(-vectors, min(RESERVE, self._most))
        self._read(hits)
        exact = [
            -_without(documents, exclude[row], -self._cosines(vectors[row], documents))
            for row, (documents, _) in enumerate(hits)
        ]
        return np.array([products.min(initial=np.inf) for products in exact], dtype=np.float32)

    @property
    def _most(self) -> int:
        return min(MOST, len(self))

    def _others(self, scores: FloatArray, width: int) -> float:
        """What no document exceeds that was not named; -inf where all were."""
        return float(scores[-1]) if len(scores) >= width and width < len(self) else -np.inf

    def _by_vector(self, vectors: FloatArray, width: int) -> Hits:
        return self.server.search(self.collection, "vector", list(vectors), width, self.facts.kind)

    def _by_terms(self, rows: Sequence[Any], width: int) -> Hits:
        """Of queries without a word that the corpus has, nothing is asked."""
        asked = [i for i, row in enumerate(rows) if row.nnz]
        hits = self.server.search(self.collection, "terms", [_weights(rows[i]) for i in asked], width)
        found = NOBODY * len(rows)
        for i, hit in zip(asked, hits, strict=True):
            found[i] = hit
        return found

    def _read(self, hits: Hits) -> None:
        """Have all documents at hand, in as few calls as can be."""
        self._rows.get(place for documents, _ in hits for place in documents.tolist())

    def _cosines(self, vector: FloatArray, documents: NDArray[np.int64]) -> FloatArray:
        if not len(documents):
            return np.zeros(0, dtype=np.float32)
        places = np.arange(len(documents), dtype=np.int32)[None]
        products: FloatArray = pair_products(vector[None], self._rows.vectors(documents), places)[0]
        return products


def _weights(row: Any) -> dict[int, float]:
    return dict(zip(row.indices.tolist(), row.data.tolist(), strict=True))


def _without(documents: NDArray[np.int64], own: int, scores: FloatArray) -> FloatArray:
    return np.asarray(np.where(documents == own, np.float32(-np.inf), scores), dtype=np.float32)
