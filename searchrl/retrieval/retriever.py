"""First-stage search for whole batches: dense, lexical, or both, as each query asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from searchrl.config import RetrieverName
from searchrl.retrieval.dense import TextEncoder, encode_texts
from searchrl.retrieval.index import Index
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, FloatArray, IntArray, Queries, Ranking, lengths
from searchrl.threads import lazy

LEXICAL_SHARE: dict[RetrieverName, float] = {"dense": 0.0, "hybrid": 0.5}
"""Share of the lexical leg with which a fresh query starts; reformulation may change it."""

USUAL_DEPTH = 1000
"""Rankings are padded to a depth up to this, also where a corpus has fewer documents."""

SAMPLE = 1024
"""Documents, evenly spaced in the corpus, that say what cosine a query has with documents at random."""


class Retriever:
    """Searches a corpus; the lexical share of each query decides how much BM25 joins the cosine.

    Hybrid scores are the min-max scaled cosine and the min-max scaled BM25, each over all documents that may be
    returned, mixed by the query's share. At share 0 the score is the plain cosine, at 1 plain BM25.
    """

    def __init__(self, encoder: TextEncoder, index: Index, lexical_share: float, depth: int) -> None:
        self.encoder = encoder
        self.index = index
        self.lexical_share = lexical_share
        self.depth = min(depth, max(len(index), USUAL_DEPTH))  # more there is not

    @property
    def description(self) -> dict[str, object]:
        """Everything that shapes its rankings beside the corpus, JSON-able."""
        own = {"encoder": self.encoder.fingerprint, "lexical_share": self.lexical_share, "depth": self.depth}
        return {**own, **self.index.description}

    @lazy
    def sample(self) -> FloatArray:
        """Vectors of ``SAMPLE`` documents, or of all where there are fewer."""
        places = np.linspace(0, len(self.index) - 1, min(len(self.index), SAMPLE)).astype(DOCUMENT)
        return self.index.vectors(places)

    @lazy
    def coherence(self) -> np.floating[Any]:
        """Length of the mean of the sample's unit vectors: what documents at random have in common."""
        norm: np.floating[Any] = np.linalg.norm((self.sample / lengths(self.sample)).mean(axis=0))
        return norm

    def queries(
        self, texts: Sequence[str], lexical_share: float | None = None, vectors: FloatArray | None = None
    ) -> Queries:
        """Encode fresh queries; ``lexical_share`` overrides the retriever's own, ``vectors`` (n, dim) are theirs where
        they were encoded before.
        """
        share = self.lexical_share if lexical_share is None else lexical_share
        if vectors is None:
            vectors = encode_texts(self.encoder, texts, "query")
        return Queries(list(texts), vectors, self.index.query_terms(texts), np.full(len(texts), share, np.float32))

    def search(self, queries: Queries, exclude: IntArray | None = None) -> Ranking:
        """Top ``depth`` documents of each query; ``exclude`` (n,) names a document never to return, -1 for none.

        Exact unless the index says otherwise: what comparing all scores gives, equal ones by the lower document, and
        for each query the same bits alone as in a batch.
        """
        n, share, index = len(queries), queries.lexical, self.index
        exclude = np.full(n, NO_DOCUMENT, dtype=DOCUMENT) if exclude is None else exclude
        found = Ranking(np.empty((n, self.depth), dtype=DOCUMENT), np.empty((n, self.depth), dtype=np.float32))
        for asked in (share == 0.0, share == 1.0, (share != 0.0) & (share != 1.0)):
            if not len(rows := np.flatnonzero(asked)):
                continue
            part, own = queries.take(rows), exclude[rows]
            if share[rows[0]] == 0.0:
                best = index.nearest(part.vectors, self.depth, own)
            elif share[rows[0]] == 1.0:
                best = index.lexical(part.terms, self.depth, own)
            else:
                best = index.hybrid(part, self.depth, own)
            found.documents[rows], found.scores[rows] = best.documents, best.scores
        return found
