"""Stages in which queries are written: titles, questions and keywords; ladders of keys, and ladders of queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.errors import DataError, ModelError
from searchrl.evaluation.stages import check_outputs
from searchrl.fitting.candidates import ladder
from searchrl.fitting.documents import read_documents
from searchrl.fitting.records import read_query_recs, write_records
from searchrl.fitting.settings import (
    MOST_RUNGS,
    FilterQueryRecsConfig,
    LessRelevantKeysConfig,
    MakeQueryRecsConfig,
    QueryDpoPairsConfig,
)
from searchrl.models.loader import ModelLoader, open_models
from searchrl.models.prompts import load_prompts
from searchrl.queries.cleaning import QueryKind
from searchrl.queries.writing import FittingWriter, QueryRec, rows_to_ask
from searchrl.retrieval.dense import build_dense_index
from searchrl.retrieval.ranking import DOCUMENT
from searchrl.text import size, words

Say = Callable[[str], None]
Ladders = dict[int, list[str]]
"""A document's row -> queries, best first."""
WritingConfig = MakeQueryRecsConfig | LessRelevantKeysConfig | QueryDpoPairsConfig


def make_query_recs(config: MakeQueryRecsConfig, say: Say) -> None:
    """Write titles, questions and keywords for each document."""
    corpus, rows = _documents(config)
    with closing(open_models(config.lm)) as loader:
        recs, asked = _writer(config, corpus, loader).queries(rows, config.kinds, config.per_document, config.seed)
    if not recs:
        raise ModelError(f"none of {asked} answers is a query that can be kept: use a larger model")
    write_records(config.output, [rec.record() for rec in recs])
    say(f"{len(recs)} queries of {asked} answers about {len(rows)} documents: {config.output}")


def filter_query_recs(config: FilterQueryRecsConfig, say: Say) -> None:
    """Write the queries of some kinds, once each, of a sensible length."""
    check_outputs(("output", config.output), inputs=[config.input])
    recs = read_query_recs(config.input)
    rejected: Counter[str] = Counter()
    kept, seen = [], set()
    for rec in recs:
        said = tuple(words(rec.query))
        if "all" not in config.filter and rec.kind not in config.filter:
            rejected["of another kind"] += 1
        elif not config.min_words <= size(rec.query) <= config.max_words:
            rejected["too short or too long"] += 1
        elif said in seen:
            rejected["asked before"] += 1
        else:
            seen.add(said)
            kept.append(rec)
    reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.items()) or "none rejected"
    if not kept:
        there = ", ".join(sorted({rec.kind for rec in recs}))
        raise DataError(f"{config.input}: no query is kept ({reasons}); its kinds are {there}")
    write_records(config.output, [rec.record() for rec in kept])
    say(f"{len(kept)} of {len(recs)} queries kept ({reasons}): {config.output}")


def make_key_ladders(config: LessRelevantKeysConfig, say: Say) -> None:
    """Write for each document a query, and further keys that are ever less relevant to it."""
    corpus, to_ask = _documents(config, config.queries_json)
    with closing(open_models(config.lm)) as loader:
        how = config.keys
        if how == "auto":
            small = loader.is_small(config.lm.model_name) or config.n_key_generation > MOST_RUNGS
            how = "corpus" if small else "generate"
        recs = _queries(config, corpus, to_ask, loader)
        rows = [rec.df_id for rec in recs if rec.df_id is not None]
        if how == "generate":
            keys = _writer(config, corpus, loader).keys(rows, [rec.query for rec in recs], config.n_key_generation)
            ids: list[list[int]] = [[] for _ in keys]
        else:
            ids = _found(config, corpus, recs, loader)
            keys = [[corpus.full_text(row) for row in found] for found in ids]
    records = [
        {
            **rec.record(),
            "correspond_key": corpus.full_text(row),
            "less_relevant_keys": less,
            "less_relevant_key_ids": found,
        }
        for rec, row, less, found in zip(recs, rows, keys, ids, strict=True)
        if less
    ]
    if not records:
        raise DataError(f"{config.documents.input_csv}: no query has a key that is less relevant than its own")
    write_records(config.output, records)
    say(f"{len(records)} queries with {sum(map(len, keys))} less relevant keys ({how}): {config.output}")


def make_query_ladders(config: QueryDpoPairsConfig, say: Say) -> None:
    """Write for each document a ladder of queries, from one that it answers to one that it does not."""
    corpus, rows = _documents(config, config.queries_json)
    with closing(open_models(config.lm)) as loader:
        variant = config.variant
        if variant is None:
            by_others = config.queries_json or config.n_query_generation > MOST_RUNGS
            variant = 2 if by_others or loader.is_small(config.lm.model_name) else 1
        if variant == 3:
            records = _pairs(config, corpus, rows, loader)
        else:
            make = _written if variant == 1 else _borrowed
            records = [
                {"key": corpus.full_text(row), "queries": queries, "df_id": row}
                for row, queries in make(config, corpus, rows, loader).items()
                if len(queries) > 1
            ]
    if not records:
        raise ModelError("no ladder has two different queries: use a larger model, or more documents")
    write_records(config.output, records)
    say(f"variant {variant}: {len(records)} ladders for {len(rows)} documents: {config.output}")


def _documents(config: WritingConfig, *others: Path | None) -> tuple[Corpus, list[int]]:
    """The table, and the rows to write about. others: further files that are read."""
    where = config.documents
    check_outputs(("output", config.output), inputs=[path for path in (where.input_csv, *others) if path])
    corpus = read_documents(where.input_csv, where.text_column)
    return corpus, rows_to_ask(corpus)[: where.max_documents or None]


def _writer(config: WritingConfig, corpus: Corpus, loader: ModelLoader) -> FittingWriter:
    return FittingWriter(loader.language_model(config.lm.model_name, "chat"), load_prompts(), corpus)


def _queries(config: LessRelevantKeysConfig, corpus: Corpus, rows: list[int], loader: ModelLoader) -> list[QueryRec]:
    """Queries whose document is known: those that are there, or new ones."""
    limit = config.documents.max_documents or len(corpus)
    if config.queries_json is not None:
        recs = [rec for rec in read_query_recs(config.queries_json, len(corpus)) if rec.df_id is not None]
        if not recs:
            raise DataError(f"{config.queries_json}: no query says which document it was written from (df_id)")
        return [rec for rec in recs if (rec.df_id or 0) < limit]
    writer, kinds = _writer(config, corpus, loader), get_args(QueryKind)
    found = [writer.queries(rows[turn::3], (kind,), 1, config.seed)[0] for turn, kind in enumerate(kinds)]
    return sorted(chain.from_iterable(found), key=lambda rec: rec.df_id or 0)


def _found(
    config: LessRelevantKeysConfig, corpus: Corpus, recs: Sequence[QueryRec], loader: ModelLoader
) -> list[list[int]]:
    """Rows of documents at growing distance from each query, its own left out."""
    encoder = loader.encoder(config.encoder)
    index = build_dense_index(corpus, encoder, loader.cache, show_progress=True, resumable=True)
    vectors = encoder.encode([rec.query for rec in recs], kind="query")
    own = np.array([rec.df_id for rec in recs], dtype=DOCUMENT)
    ranking = index.search(vectors, min(config.depth, max(1, len(corpus) - 1)), own)
    ranked = [[row for row in found if row >= 0 and corpus.full_text(row)] for found in ranking.documents.tolist()]
    return [ladder(found, config.n_key_generation) for found in ranked]


def _written(config: QueryDpoPairsConfig, corpus: Corpus, rows: list[int], loader: ModelLoader) -> Ladders:
    ladders = _writer(config, corpus, loader).query_ladders(rows, config.n_query_generation)
    return dict(zip(rows, ladders, strict=True))


def _borrowed(config: QueryDpoPairsConfig, corpus: Corpus, rows: list[int], loader: ModelLoader) -> Ladders:
    if config.queries_json is not None:
        recs = read_query_recs(config.queries_json, len(corpus))
    else:
        recs = _writer(config, corpus, loader).queries(rows, ("questions",), 1, config.seed)[0]
    asked = {rec.df_id: rec.query for rec in reversed(recs) if rec.df_id is not None}
    rows = [row for row in rows if row in asked]
    index = build_dense_index(corpus, loader.encoder(config.encoder), loader.cache, show_progress=True, resumable=True)
    vectors = np.asarray(index.vectors)[rows]
    ladders = {}
    for start in range(0, len(rows), 256):
        scores = vectors[start : start + 256] @ vectors.T
        for row, order in zip(rows[start : start + 256], np.argsort(-scores, axis=1, kind="stable"), strict=True):
            others = [asked[rows[i]] for i in order if rows[i] != row]
            others = [query for query in dict.fromkeys(others) if query != asked[row]]
            ladders[row] = [asked[row], *ladder(others, config.n_query_generation - 1)]
    return ladders


def _pairs(config: QueryDpoPairsConfig, corpus: Corpus, rows: list[int], loader: ModelLoader) -> list[dict[str, Any]]:
    found = _writer(config, corpus, loader).query_pairs(rows, config.n_query_generation, config.seed)
    return [
        {
            "key": corpus.full_text(row),
            "chosen_queries": [chosen for chosen, _ in pairs],
            "rejected_queries": [rejected for _, rejected in pairs],
            "df_id": row,
        }
        for row, pairs in zip(rows, found, strict=True)
        if pairs
    ]
