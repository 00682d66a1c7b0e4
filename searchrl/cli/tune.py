"""``searchrl tune DOCUMENTS``: from documents to a measured search agent, in one command."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from searchrl.checks import at_least
from searchrl.command import parse, run_command
from searchrl.config import ModelConfig
from searchrl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from searchrl.experiment.tune import Tuned

FACTS = "tune.json"
"""By this file a folder is known as this command's."""


@dataclass(frozen=True)
class TuneConfig:
    """Write queries about documents, train a search agent, measure it, and say what to use. The same command again goes
    on where it stopped.
    """

    documents: Annotated[str, tyro.conf.Positional]
    """A folder of files (txt, md, rst, html, pdf, csv, tsv, jsonl, json, parquet), a BEIR folder, or a dataset's
    name."""
    output: Path | None = None
    """Where everything goes; runs/tune-<documents> if not given."""
    queries: int = 300
    """Queries to write, at most."""
    passage: int = 2000
    """Characters of a passage; longer documents are cut into several."""
    text_column: str = "text"
    """Field of tables that holds the text."""
    fit: bool = False
    """Also fit the language model to judge these documents; on a CPU this takes long."""
    episodes: int = 10_000
    """Episodes to train."""
    seed: int = 42
    """Seeds everything drawn at random."""
    models: ModelConfig = field(default_factory=ModelConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot be tuned."""
        at_least("queries", self.queries, 6)
        at_least("passage", self.passage, 100)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl tune``."""
    run_command(_tune, arguments)


def _tune(arguments: Sequence[str]) -> None:
    config = parse(TuneConfig, arguments, "searchrl tune")
    from searchrl.cli.describe import Printer
    from searchrl.config import LearningConfig
    from searchrl.experiment.tune import REPORT, commands, tune

    output = config.output or Path("runs") / f"tune-{Path(config.documents).resolve().name}"
    if output.is_dir() and any(output.iterdir()) and not (output / "queries.jsonl").exists():
        raise ConfigError(f"`output` {output}: holds something else; name a new folder")
    try:
        tuned = tune(
            config.documents,
            output,
            queries=config.queries,
            passage=config.passage,
            text_column=config.text_column,
            fit=config.fit,
            models=config.models,
            learning=LearningConfig(episodes=config.episodes, seed=config.seed),
            listener=Printer(),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("go on with the same command") from None
    print(f"held-out queries:\n{tuned.test.table.summary_text()}")
    if tuned.judged:
        print(f"judged queries:\n{tuned.judged.table.summary_text()}")
    _index(output, tuned, config.models)
    print(f"\n{tuned.recommendation}\nreport: {output / REPORT}")
    print("\n".join(commands(output)))


def _index(output: Path, tuned: Tuned, models: ModelConfig) -> None:
    """Index the documents for ``searchrl serve``, from the vectors that are kept."""
    from searchrl.experiment.parts import make_encoder, make_loader
    from searchrl.retrieval.dense import build_dense_index
    from searchrl.service.corpora import CorpusStore

    loader, corpus = make_loader(models), tuned.documents.corpus
    encoder = make_encoder(models, loader.device)
    vectors = build_dense_index(corpus, encoder, loader.cache, show_progress=True).vectors
    store = CorpusStore(output / "corpora", encoder)
    try:
        writer = store.begin(corpus_name(output))
        writer.add(list(zip(corpus.ids, corpus.titles, corpus.texts, strict=True)), vectors)
        store.publish(corpus_name(output), writer)
    finally:
        store.close()
        loader.close()


def corpus_name(output: Path) -> str:
    """What the service calls the documents of a folder."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", output.resolve().name.lower()).strip("-._")[:64]
    return plain or "documents"


def tuned_folder(arguments: Sequence[str], words: int) -> Path | None:
    """The folder that a command's first word names, where this command made it; words: how many words are needed."""
    given = list(arguments[:words])
    if len(given) < words or any(word.startswith("-") for word in given) or not (Path(given[0]) / FACTS).is_file():
        return None
    return Path(given[0])


def choice_of(folder: Path) -> tuple[str, str]:
    """What was recommended (dense, hybrid, agent), and the encoder. Raises DataError on a damaged file."""
    from searchrl.data.records import read_json

    facts = read_json(folder / FACTS)
    try:
        return str(facts["choice"]), str(facts["encoder"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / FACTS}: damaged; run searchrl tune again") from error


if __name__ == "__main__":
    main()
