"""``python -m searchrl.preference.make_query_dpo_pairs``: a key and queries that it answers ever less."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from searchrl.command import parse, run_command
from searchrl.errors import ConfigError
from searchrl.fitting.stage_config import LanguageModelConfig

if TYPE_CHECKING:
    from searchrl.data.dataset import Corpus
    from searchrl.models.loader import ModelLoader

MOST_QUERIES = 5


@dataclass(frozen=True)
class QueryDpoPairsConfig:
    """Make for each document a ladder of queries, from one that it answers to one that it does not."""

    input_csv: Path
    """The documents: df.csv of process_data."""
    output: Path
    """query_dpo_pairs.json: key, queries (best first), df_id; with variant 3 chosen_queries and rejected_queries."""
    variant: Literal[1, 2, 3] | None = None
    """1: the language model writes every rung. 2: the document's own query, then those of other documents, ever further
    from it. 3: pairs of a question that the document answers and one that only uses its words. By default 2 below
    about 1B parameters, else 1."""
    queries_json: Path | None = None
    """With variant 2: the queries to use, query_recs.json or filtered_query_recs.json; if not given, a question is
    written for each document."""
    text_column: str = "text"
    """Column that holds the text."""
    n_query_generation: int = 5
    """Queries on a ladder, the best included; with variant 3, pairs."""
    encoder: str | None = None
    """With variant 2: what says how close documents are; all-MiniLM-L6-v2 if not given."""
    max_documents: int = 0
    """Documents to work on, the first of the table; 0 for all."""
    seed: int = 42
    """Seeds what is sampled."""
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)

    def __post_init__(self) -> None:
        """Refuse what makes no ladder."""
        least = 1 if self.variant == 3 else 2
        if self.n_query_generation < least or self.max_documents < 0:
            raise ConfigError(f"--n-query-generation must be at least {least}, --max-documents at least 0")
        if self.variant == 1 and self.n_query_generation > MOST_QUERIES:
            raise ConfigError(f"--n-query-generation {self.n_query_generation}: variant 1 has {MOST_QUERIES} rungs")
        if self.queries_json is not None and self.variant in (1, 3):
            raise ConfigError(f"--queries-json is read by variant 2; variant {self.variant} writes its own queries")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.preference.make_query_dpo_pairs``."""
    run_command(_make, arguments)


def _make(arguments: Sequence[str]) -> None:
    run(parse(QueryDpoPairsConfig, arguments, "python -m searchrl.preference.make_query_dpo_pairs"))


def run(config: QueryDpoPairsConfig) -> None:
    """Do the stage's work."""
    from searchrl.errors import ModelError
    from searchrl.evaluation.stages import check_outputs, say
    from searchrl.fitting.documents import read_documents
    from searchrl.fitting.json_records import write_records
    from searchrl.fitting.query_recs import rows_to_ask
    from searchrl.fitting.stage_models import is_small, stage_loader

    inputs = [path for path in (config.input_csv, config.queries_json) if path]
    check_outputs(("--output", config.output), inputs=inputs)
    corpus = read_documents(config.input_csv, config.text_column)
    rows = rows_to_ask(corpus)[: config.max_documents or None]
    with closing(stage_loader(config.lm)) as loader:
        variant = config.variant
        if variant is None:
            by_others = config.queries_json or config.n_query_generation > MOST_QUERIES
            variant = 2 if by_others or is_small(config.lm.model_name, loader) else 1
        make = {1: _written, 2: _borrowed, 3: _pairs}[variant]
        records = make(config, corpus, rows, loader)
    if not records:
        raise ModelError("no ladder has two different queries: use a larger model, or more documents")
    write_records(config.output, records)
    say(f"variant {variant}: {len(records)} ladders for {len(rows)} documents: {config.output}")


def _written(config: QueryDpoPairsConfig, corpus: Corpus, rows: list[int], loader: ModelLoader) -> list[dict[str, Any]]:
    from searchrl.fitting.ladders import QUERY_RUNGS, written_queries

    lm = loader.language_model(config.lm.model_name, "chat")
    rungs = QUERY_RUNGS[: config.n_query_generation]
    found = written_queries(corpus, rows, rungs, lm)
    ladders = [list(dict.fromkeys(query for query in queries if query)) for queries in found]
    return _records(corpus, rows, ladders)


def _borrowed(
    config: QueryDpoPairsConfig, corpus: Corpus, rows: list[int], loader: ModelLoader
) -> list[dict[str, Any]]:
    import numpy as np

    from searchrl.evaluation.index import obtain_index
    from searchrl.fitting.query_recs import read_query_recs, write_queries
    from searchrl.fitting.sampling import ladder

    if config.queries_json is not None:
        recs = read_query_recs(config.queries_json, len(corpus))
    else:
        lm = loader.language_model(config.lm.model_name, "chat")
        recs = write_queries(corpus, rows, ("questions",), 1, lm, config.seed)[0]
    asked = {rec.df_id: rec.query for rec in reversed(recs) if rec.df_id is not None}
    rows = [row for row in rows if row in asked]
    index = obtain_index(corpus, loader.encoder(config.encoder), loader.cache)
    vectors = np.asarray(index.vectors)[rows]
    ladders = []
    for start in range(0, len(rows), 256):
        scores = vectors[start : start + 256] @ vectors.T
        for row, order in zip(rows[start : start + 256], np.argsort(-scores, axis=1, kind="stable"), strict=True):
            others = [asked[rows[i]] for i in order if rows[i] != row]
            others = [query for query in dict.fromkeys(others) if query != asked[row]]
            ladders.append([asked[row], *ladder(others, config.n_query_generation - 1)])
    return _records(corpus, rows, ladders)


def _pairs(config: QueryDpoPairsConfig, corpus: Corpus, rows: list[int], loader: ModelLoader) -> list[dict[str, Any]]:
    from searchrl.fitting.ladders import QUERY_PROMPT, QUERY_RUNGS, UNSUPPORTED
    from searchrl.fitting.query_recs import MAX_NEW_TOKENS, TEMPERATURE, clean, shown

    lm = loader.language_model(config.lm.model_name, "chat")
    found: dict[int, list[tuple[str, str]]] = {row: [] for row in rows}
    for number in range(config.n_query_generation):
        answers = []
        for rung in (QUERY_RUNGS[0], UNSUPPORTED):
            asked = [QUERY_PROMPT.format(document=shown(corpus.full_text(row)), rung=rung) for row in rows]
            temperature, seed = TEMPERATURE if number else 0.0, config.seed + number
            answers.append(lm.generate(asked, max_new_tokens=MAX_NEW_TOKENS, temperature=temperature, seed=seed))
        for row, chosen, rejected in zip(rows, *answers, strict=True):
            pair = clean(chosen, "questions"), clean(rejected, "questions")
            if all(pair) and pair[0] != pair[1] and pair not in found[row]:
                found[row].append(pair)
    return [
        {
            "key": corpus.full_text(row),
            "chosen_queries": [chosen for chosen, _ in pairs],
            "rejected_queries": [rejected for _, rejected in pairs],
            "df_id": row,
        }
        for row, pairs in found.items()
        if pairs
    ]


def _records(corpus: Corpus, rows: Sequence[int], ladders: Sequence[list[str]]) -> list[dict[str, Any]]:
    return [
        {"key": corpus.full_text(row), "queries": queries, "df_id": row}
        for row, queries in zip(rows, ladders, strict=True)
        if len(queries) > 1
    ]


if __name__ == "__main__":
    main()
