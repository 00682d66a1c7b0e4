"""Which phrases become tags: each document's best ones, as long as they bind documents together."""

from __future__ import annotations

from typing import Any

import numpy as np

from searchrl.errors import DataError
from searchrl.tagtree.phrases import Phrases

ROUNDS = 4
"""How often documents choose anew among the tags that are left."""


def best_phrases(phrases: Phrases, per_document: int, least: int) -> list[list[str]]:
    """The tags of each document, best first, see ``choose``. Raises DataError where no tag is left."""
    chosen = choose(phrases.weights, per_document, least)
    if not chosen.nnz:
        raise DataError(f"no tag is shared by {least} documents; lower --min-documents")
    tags = []
    for row in range(chosen.shape[0]):
        span = slice(chosen.indptr[row], chosen.indptr[row + 1])
        columns = chosen.indices[span]
        tags.append([phrases.names[column] for column in columns[np.lexsort((columns, -chosen.data[span]))]])
    return tags


def choose(weights: Any, per_document: int, least: int) -> Any:
    """Give each document up to ``per_document`` phrases, those that weigh most, so that each is given ``least`` times.

    weights: (documents, phrases) CSR. Phrases that too few documents chose are dropped and the documents choose again,
    because a tag of one document leads nowhere else. Returns what was chosen: the same shape, with the weights.
    """
    from scipy import sparse

    rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    order = np.lexsort((weights.indices, -weights.data, rows))
    rows, columns, values = rows[order], weights.indices[order], weights.data[order]
    kept = np.flatnonzero(values > 0)
    for _ in range(ROUNDS):
        starts = np.searchsorted(rows[kept], rows[kept])
        chosen = kept[np.arange(len(kept)) - starts < per_document]
        enough = np.bincount(columns[chosen], minlength=weights.shape[1]) >= least
        if enough[columns[chosen]].all():
            break
        kept = kept[enough[columns[kept]]]
    chosen = chosen[enough[columns[chosen]]]
    return sparse.csr_matrix((values[chosen], (rows[chosen], columns[chosen])), shape=weights.shape)
