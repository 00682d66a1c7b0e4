"""Section: the numeric formats that this CPU has, how fast each is, and how well it keeps the judge's order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from benchmarks.measure import Figure
from benchmarks.session import Pairs, Session
from searchrl.device import cpu_speeds, with_dtype
from searchrl.models.language_model import FloatArray
from searchrl.models.transformers_lm import TransformersLM
from searchrl.retrieval.ranking import NO_DOCUMENT

QUERIES, DOCUMENTS = 4, 12
"""Judged in each format."""


def numeric_formats(session: Session) -> list[Figure]:
    """The self-test's speeds beside float32's, and rank correlations within a query with float32 (1: same order)."""
    if session.bench.device.device != "cpu":
        return []
    speed = cpu_speeds()
    name = "numeric formats, one thread"
    figures = [
        Figure(name, f"{dtype}, a layer of the language model", value, "tokens/s", speed["float32"])
        for dtype, value in speed.items()
        if value
    ]
    there = [dtype for dtype, value in speed.items() if value]
    pairs = _pairs(session)
    exact = _scores(session, "float32", pairs)
    name = "numeric formats, agreement of the judge with float32"
    for dtype in there[1:]:
        agreement = rank_correlation([query for query, _ in pairs], exact, _scores(session, dtype, pairs))
        figures.append(Figure(name, f"{dtype}, rank correlation within a query", agreement, "of 1"))
    return figures


def rank_correlation(queries: Sequence[str], one: FloatArray, other: FloatArray) -> float:
    """Spearman's correlation of two scores of pairs, (n,) each, within each query; the mean over queries."""
    from scipy.stats import spearmanr

    found = []
    for query in dict.fromkeys(queries):
        rows = [i for i, asked in enumerate(queries) if asked == query]
        if len(rows) > 1 and np.ptp(one[rows]) > 0 and np.ptp(other[rows]) > 0:
            found.append(float(spearmanr(one[rows], other[rows]).statistic))
    return float(np.mean(found)) if found else float("nan")


def _pairs(session: Session) -> Pairs:
    """Some queries with the first documents that are found for them."""
    corpus, retriever = session.bench.dataset.corpus, session.bench.retriever
    texts = session.queries.texts[:QUERIES]
    found = retriever.search(retriever.queries(texts)).documents[:, :DOCUMENTS]
    return [
        (text, corpus.full_text(int(document)))
        for text, row in zip(texts, found, strict=True)
        for document in row
        if document != NO_DOCUMENT
    ]


def _scores(session: Session, dtype: str, pairs: Pairs) -> FloatArray:
    lm = session.bench.transformers_lm
    with closing(TransformersLM(lm.name, with_dtype(session.bench.device, dtype))) as other:
        judge = replace(session.judge, lm=other)
        return judge.score([query for query, _ in pairs], [document for _, document in pairs])
