"""Which document of a corpus is a query itself, and so is never retrieved for it: the one rule.

Some collections ask with their own documents (ArguAna, Quora): a query's own text would then stand first in every
ranking. An equal id alone proves nothing: queries 0 to 5 and documents 0 to 5 may be numbered so by accident. A
document that people judged relevant to the query is never left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.text import squeezed


def own_document(queries: QuerySet, corpus: Corpus) -> NDArray[np.int64]:
    """Index of the document that each query is itself, (n,); -1 where there is none.

    By ``queries.own_document``: ``text``, a document whose text, or title and text, is the query's (of several the one
    with its id, else the first; white space and Unicode form do not count); ``id``, the one with its id; ``none``.
    """
    by_id = [corpus.position.get(query_id, -1) for query_id in queries.ids]
    if queries.own_document == "text":
        found = list(_by_text(queries, corpus, by_id))
    else:
        found = by_id if queries.own_document == "id" else [-1] * len(queries)
    relevant = (
        own >= 0 and queries.qrels.get(query_id, {}).get(corpus.ids[own], 0) > 0
        for query_id, own in zip(queries.ids, found, strict=True)
    )
    return np.array([-1 if kept else own for own, kept in zip(found, relevant, strict=True)], dtype=np.int64)


def own_ids(queries: QuerySet, corpus: Corpus) -> dict[str, str]:
    """Query id -> id of the document that it is itself, where there is one."""
    found = zip(queries.ids, own_document(queries, corpus).tolist(), strict=True)
    return {query_id: corpus.ids[own] for query_id, own in found if own >= 0}


def without(run: Mapping[str, Mapping[str, float]], own: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """A run (query id -> document id -> score), whoever made it, without the queries' own documents."""
    return {
        query: {doc: score for doc, score in documents.items() if doc != own.get(query)}
        for query, documents in run.items()
    }


def _by_text(queries: QuerySet, corpus: Corpus, by_id: Iterable[int]) -> Iterable[int]:
    asked = {squeezed(text) for text in queries.texts}
    places: dict[str, list[int]] = {}
    for i, (text, full) in enumerate(zip(corpus.texts, corpus.full_texts(), strict=True)):
        for alike in {squeezed(text), squeezed(full)} & asked:
            places.setdefault(alike, []).append(i)
    for text, same_id in zip(queries.texts, by_id, strict=True):
        same = places.get(squeezed(text), [-1])
        yield same_id if same_id in same else same[0]
