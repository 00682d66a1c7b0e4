"""What a tag tree costs and what it loses: recall, and overlap with exact search, at the share of documents scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.evaluation.measures import evaluate_ranking
from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, IntArray, Ranking
from searchrl.retrieval.tagtree.retriever import MakeGuide, TagTreeRetriever
from searchrl.reward.gain import own_document


@dataclass(frozen=True)
class Measured:
    """Means over the queries. scored, compared: documents scored, and tags and clusters compared with a query, both as
    shares of the collection. values: measure -> its value. overlap: share of exact search's documents that were found.
    beam_width is None for exact search itself.
    """

    beam_width: int | None
    scored: float
    compared: float
    values: dict[str, float]
    overlap: float


def measure(
    retriever: TagTreeRetriever,
    queries: QuerySet,
    vectors: FloatArray,
    corpus: Corpus,
    k: int,
    *,
    beams: Sequence[int],
    shares: Sequence[float],
    guide: MakeGuide | None = None,
) -> list[Measured]:
    """Exact search, then every share of the documents with every beam width. vectors: the queries', (n, dim).

    Queries without judgments are left out; one at least must have them.
    """
    rows = [i for i, name in enumerate(queries.ids) if name in queries.qrels]
    queries = QuerySet([queries.ids[i] for i in rows], [queries.texts[i] for i in rows], queries.qrels)
    vectors = vectors[rows]
    of_judged = None if guide is None else lambda places: guide([rows[place] for place in places])
    exclude = own_document(queries, corpus)
    exact = DenseIndex(retriever.vectors).search(vectors, k, exclude)
    wanted = (f"Recall@{k}", "nDCG@10")

    def means(ranking: Ranking) -> dict[str, float]:
        values = evaluate_ranking(ranking, queries, corpus.ids, wanted)
        return {name: float(by_query.mean()) for name, by_query in values.items()}

    measured = [Measured(None, 1.0, 0.0, means(exact), 1.0)]
    for share in shares:
        for beam in beams:
            candidates = max(k, round(share * len(corpus)))
            found = retriever.search(vectors, k, exclude, beam_width=beam, candidates=candidates, guide=of_judged)
            scored, compared = (float(n.mean()) / len(corpus) for n in (found.scored, found.walk.compared))
            overlap = shared(found.ranking.documents, exact.documents)
            measured.append(Measured(beam, scored, compared, means(found.ranking), overlap))
    return measured


def shared(found: IntArray, exact: IntArray) -> float:
    """Share of the documents in rows of ``exact`` that stand in the same row of ``found``."""
    there = [np.isin(e[e != NO_DOCUMENT], f).mean() for f, e in zip(found, exact, strict=True) if (e >= 0).any()]
    return float(np.mean(there)) if there else 1.0


def measured_table(rows: Sequence[Measured]) -> str:
    """The rows as text."""
    from searchrl.evaluation.text_table import number, text_table

    names = list(rows[0].values)
    header = ["search", "documents scored", "tags and clusters compared", *names, "overlap with exact"]
    cells = [
        [
            "exact" if row.beam_width is None else f"beam {row.beam_width}",
            f"{row.scored:.1%}",
            f"{row.compared:.1%}",
            *(number(row.values[name]) for name in names),
            f"{row.overlap:.1%}",
        ]
        for row in rows
    ]
    return text_table(header, cells)
