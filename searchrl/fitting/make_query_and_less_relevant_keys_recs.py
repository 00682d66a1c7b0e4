"""``python -m searchrl.preference.make_query_and_less_relevant_keys_recs``: a query and keys of falling relevance."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from searchrl.command import parse, run_command
from searchrl.errors import ConfigError
from searchrl.fitting.stage_config import LanguageModelConfig

if TYPE_CHECKING:
    from searchrl.data.dataset import Corpus
    from searchrl.fitting.query_recs import QueryRec
    from searchrl.models.loader import ModelLoader

MOST_KEYS = 5


@dataclass(frozen=True)
class LessRelevantKeysConfig:
    """Make for each document a query, and further keys that are ever less relevant to it."""

    input_csv: Path
    """The documents: df.csv of process_data."""
    output: Path
    """query_and_less_relevant_keys_recs.json: query, correspond_key, less_relevant_keys (best first), df_id."""
    queries_json: Path | None = None
    """Queries that are there: query_recs.json or filtered_query_recs.json; if not given, one is written for each
    document: a title, a question, keywords, in turn."""
    text_column: str = "text"
    """Column that holds the text."""
    n_key_generation: int = 4
    """Less relevant keys for a query."""
    keys: Literal["auto", "corpus", "generate"] = "auto"
    """corpus: documents of the collection, at ever later places of a search for the query. generate: the language model
    rewrites the document, each time further from the query. auto: corpus below about 1B parameters, else generate."""
    depth: int = 100
    """With corpus: how far down the search the last key lies."""
    encoder: str | None = None
    """With corpus: what searches; all-MiniLM-L6-v2 if not given."""
    max_documents: int = 0
    """Documents to work on, the first of the table; 0 for all."""
    seed: int = 42
    """Seeds what is sampled."""
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)

    def __post_init__(self) -> None:
        """Refuse what makes no ladder."""
        if self.n_key_generation < 1 or self.depth < 1 or self.max_documents < 0:
            raise ConfigError("--n-key-generation and --depth must be at least 1, --max-documents at least 0")
        if self.keys == "generate" and self.n_key_generation > MOST_KEYS:
            raise ConfigError(f"--n-key-generation {self.n_key_generation}: with --keys generate at most {MOST_KEYS}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.preference.make_query_and_less_relevant_keys_recs``."""
    run_command(_make, arguments)


def _make(arguments: Sequence[str]) -> None:
    run(
        parse(LessRelevantKeysConfig, arguments, "python -m searchrl.preference.make_query_and_less_relevant_keys_recs")
    )


def run(config: LessRelevantKeysConfig) -> None:
    """Do the stage's work."""
    from searchrl.errors import DataError
    from searchrl.evaluation.stages import check_outputs, say
    from searchrl.fitting.documents import read_documents
    from searchrl.fitting.json_records import write_records
    from searchrl.fitting.ladders import written_keys
    from searchrl.fitting.stage_models import is_small, stage_loader

    inputs = [path for path in (config.input_csv, config.queries_json) if path]
    check_outputs(("--output", config.output), inputs=inputs)
    corpus = read_documents(config.input_csv, config.text_column)
    with closing(stage_loader(config.lm)) as loader:
        name = config.lm.model_name
        how = config.keys
        if how == "auto":
            small = is_small(name, loader) or config.n_key_generation > MOST_KEYS
            how = "corpus" if small else "generate"
        recs = _queries(config, corpus, loader)
        rows = [rec.df_id for rec in recs if rec.df_id is not None]
        if how == "generate":
            lm = loader.language_model(name, "chat")
            keys = written_keys(corpus, rows, [rec.query for rec in recs], config.n_key_generation, lm)
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
        raise DataError(f"{config.input_csv}: no query has a key that is less relevant than its own")
    write_records(config.output, records)
    say(f"{len(records)} queries with {sum(map(len, keys))} less relevant keys ({how}): {config.output}")


def _queries(config: LessRelevantKeysConfig, corpus: Corpus, loader: ModelLoader) -> list[QueryRec]:
    """Queries whose document is known: those that are there, or new ones."""
    from searchrl.errors import DataError
    from searchrl.fitting.query_recs import read_query_recs, rows_to_ask, write_queries

    limit = config.max_documents or None
    if config.queries_json is not None:
        recs = [rec for rec in read_query_recs(config.queries_json, len(corpus)) if rec.df_id is not None]
        if not recs:
            raise DataError(f"{config.queries_json}: no query says which document it was written from (df_id)")
        return [rec for rec in recs if limit is None or (rec.df_id or 0) < limit]
    lm = loader.language_model(config.lm.model_name, "chat")
    rows, found = rows_to_ask(corpus)[:limit], []
    for turn, kind in enumerate(("titles", "questions", "keywords")):
        found += write_queries(corpus, rows[turn::3], (kind,), 1, lm, config.seed)[0]  # type: ignore[arg-type]
    return sorted(found, key=lambda rec: rec.df_id or 0)


def _found(
    config: LessRelevantKeysConfig, corpus: Corpus, recs: Sequence[QueryRec], loader: ModelLoader
) -> list[list[int]]:
    """Rows of documents at growing distance from each query, its own left out."""
    import numpy as np

    from searchrl.evaluation.index import obtain_index
    from searchrl.fitting.sampling import ladder

    encoder = loader.encoder(config.encoder)
    index = obtain_index(corpus, encoder, loader.cache)
    vectors = encoder.encode([rec.query for rec in recs], kind="query")
    own = np.array([rec.df_id for rec in recs], dtype=np.int32)
    ranking = index.search(vectors, min(config.depth, max(1, len(corpus) - 1)), own)
    ranked = [[row for row in found if row >= 0 and corpus.full_text(row)] for found in ranking.documents.tolist()]
    return [ladder(found, config.n_key_generation) for found in ranked]


if __name__ == "__main__":
    main()
