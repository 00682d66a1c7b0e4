"""``python -m searchrl.preference.make_query_recs``: titles, questions and keywords for each document."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from searchrl.command import parse, run_command
from searchrl.errors import ConfigError
from searchrl.fitting.stage_config import LanguageModelConfig

KindName = Literal["titles", "questions", "keywords"]


@dataclass(frozen=True)
class MakeQueryRecsConfig:
    """Have a language model write titles, questions and keywords for each document."""

    input_csv: Path
    """The documents: df.csv of process_data."""
    output: Path
    """JSON records: query, df_id (the document's row), query-type."""
    text_column: str = "text"
    """Column that holds the text."""
    kinds: tuple[KindName, ...] = ("titles", "questions", "keywords")
    """What to write."""
    per_document: int = 1
    """Queries of each kind for a document."""
    max_documents: int = 0
    """Documents to write for, the first of the table; 0 for all."""
    seed: int = 42
    """Seeds what is sampled: all but the first query of a kind."""
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)

    def __post_init__(self) -> None:
        """Refuse what asks for nothing."""
        if self.per_document < 1 or self.max_documents < 0:
            raise ConfigError("--per-document must be at least 1 and --max-documents at least 0")
        if not self.kinds:
            raise ConfigError("--kinds is empty: titles, questions or keywords")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.preference.make_query_recs``."""
    run_command(_make, arguments)


def _make(arguments: Sequence[str]) -> None:
    run(parse(MakeQueryRecsConfig, arguments, "python -m searchrl.preference.make_query_recs"))


def run(config: MakeQueryRecsConfig) -> None:
    """Do the stage's work."""
    from searchrl.errors import ModelError
    from searchrl.evaluation.stages import check_outputs, say
    from searchrl.fitting.documents import read_documents
    from searchrl.fitting.json_records import write_records
    from searchrl.fitting.query_recs import rows_to_ask, write_queries
    from searchrl.fitting.stage_models import stage_loader

    check_outputs(("--output", config.output), inputs=[config.input_csv])
    corpus = read_documents(config.input_csv, config.text_column)
    rows = rows_to_ask(corpus)[: config.max_documents or None]
    with closing(stage_loader(config.lm)) as loader:
        lm = loader.language_model(config.lm.model_name, "chat")
        recs, asked = write_queries(corpus, rows, config.kinds, config.per_document, lm, config.seed)
    if not recs:
        raise ModelError(f"none of {asked} answers is a query that can be kept: use a larger model")
    write_records(config.output, [rec.record() for rec in recs])
    say(f"{len(recs)} queries of {asked} answers about {len(rows)} documents: {config.output}")


if __name__ == "__main__":
    main()
