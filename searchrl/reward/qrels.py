"""Human judgments as arrays: what a person said a ranking is worth."""

from __future__ import annotations

from typing import Any

import numpy as np

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.retrieval.ranking import IntArray
from searchrl.reward.gain import Gains, best_gains, ndcg_at_k


class Judgments:
    """Grades of n queries' documents. A document whose id equals the query's is never counted: see ``own_document``."""

    def __init__(self, queries: QuerySet, corpus: Corpus) -> None:
        from scipy import sparse

        rows, columns, values = [], [], []
        for row, query_id in enumerate(queries.ids):
            for doc_id, grade in queries.qrels.get(query_id, {}).items():
                if grade > 0 and doc_id in corpus.position and doc_id != query_id:
                    rows.append(row)
                    columns.append(corpus.position[doc_id])
                    values.append(grade)
        shape = (len(queries), len(corpus))
        self._grades: Any = sparse.csr_matrix((np.array(values, dtype=np.float32), (rows, columns)), shape=shape)

    def grades(self, documents: IntArray) -> Gains:
        """Grades of (n, k) documents; 0 where unjudged or no document."""
        rows = np.repeat(np.arange(len(documents)), documents.shape[1])
        found = np.asarray(self._grades[rows, np.maximum(documents, 0).ravel()]).reshape(documents.shape)
        return np.where(documents >= 0, found, 0.0).astype(np.float64)

    def gain(self, documents: IntArray, k: int = 10) -> Gains:
        """nDCG@k of (n, depth) rankings, the ideal taken over all judgments, as trec_eval computes it. Shape (n,)."""
        counts = np.diff(self._grades.indptr)
        known = np.zeros((self._grades.shape[0], max(1, int(counts.max(initial=0)))))
        known[np.arange(known.shape[1])[None, :] < counts[:, None]] = self._grades.data
        top = self.grades(documents[:, :k])
        return ndcg_at_k(np.pad(top, [(0, 0), (0, k - top.shape[1])]), best_gains(known, k))


def own_document(queries: QuerySet, corpus: Corpus) -> IntArray:
    """Index of the document whose id equals each query's, never to be retrieved for it; -1 where there is none."""
    return np.array([corpus.position.get(query_id, -1) for query_id in queries.ids], dtype=np.int32)
