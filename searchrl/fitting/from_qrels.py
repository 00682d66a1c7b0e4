"""Preference lists straight from human judgments: relevant documents against others that a first stage returns."""

from __future__ import annotations

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.device import rng
from searchrl.fitting.lists import PreferenceList
from searchrl.fitting.sampling import draw, draw_others
from searchrl.retrieval.ranking import NO_DOCUMENT, IntArray


def lists_from_qrels(
    queries: QuerySet,
    corpus: Corpus,
    ranked: IntArray,
    *,
    positives: int,
    negatives: int,
    random_negatives: int,
    seed: int,
) -> list[PreferenceList]:
    """One list a query: up to ``positives`` relevant documents, at the level of their grade, and at level 0 others.

    ranked: (n, depth) corpus indices, best first, ``NO_DOCUMENT`` past the end: ``negatives`` are drawn from what is
    not relevant there, ``random_negatives`` from the whole corpus. What people did not judge counts as not relevant, as
    in all such training; a few are. A query without a relevant or without another document is left out, and its own
    document (the one with its id) is never used. Draws depend on the query's id and ``seed`` alone.
    """
    lists = []
    for query_id, text, row in zip(queries.ids, queries.texts, ranked, strict=True):
        random = rng(seed, "preference lists", query_id)
        grades = {
            corpus.position[d]: grade
            for d, grade in queries.qrels.get(query_id, {}).items()
            if grade > 0 and d in corpus.position and d != query_id and corpus.full_text(corpus.position[d])
        }
        taken = {*grades, corpus.position.get(query_id, NO_DOCUMENT), NO_DOCUMENT}
        relevant = draw(random, sorted(grades), positives)
        others = draw(random, [int(d) for d in row if d not in taken and corpus.full_text(int(d))], negatives)
        anywhere = draw_others(random, len(corpus), random_negatives, {*taken, *others})
        others += [d for d in anywhere if corpus.full_text(d)]
        if relevant and others and text.strip():
            documents = [*relevant, *others]
            levels = [grades.get(d, 0) for d in documents]
            texts = [corpus.full_text(d) for d in documents]
            lists.append(PreferenceList([text] * len(texts), texts, levels, query_id))
    return lists
