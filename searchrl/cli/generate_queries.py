"""``generate_queries.py``: queries for the documents of a dataset, written by a language model, to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.cli.settings import GenerateConfig
from searchrl.command import check_output_file, parse, run_command
from searchrl.config import DataConfig, ModelConfig

if TYPE_CHECKING:
    from searchrl.data.dataset import Dataset
    from searchrl.data.query_bank import QueryBank, QueryType
    from searchrl.experiment.models import Models
    from searchrl.queries.generate import GeneratedQueries


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl generate-queries``."""
    run_command(_generate, arguments)


def _generate(arguments: Sequence[str]) -> None:
    config = parse(GenerateConfig, arguments, "generate_queries.py")
    from searchrl.experiment.collection import read_collection
    from searchrl.experiment.models import open_writer

    data = DataConfig(config.dataset, config.data_dir, config.mirror)
    models = ModelConfig(
        device=config.device,
        lm=config.lm,
        judge="auto" if config.judge == "none" else config.judge,
        prompts=config.prompts,
        cache=config.cache,
        serving=config.serving,
    )
    with open_writer(models, judges=config.judge != "none", show_progress=True) as opened:
        try:
            _generate_from(config, read_collection(data, config.seed).dataset, opened)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "answers so far are kept; go on with the same command" if config.cache else ""
            ) from None


def _generate_from(config: GenerateConfig, dataset: Dataset, models: Models) -> None:
    from searchrl.cli import describe
    from searchrl.data.beir import write_beir_folder
    from searchrl.data.query_bank import write_query_bank
    from searchrl.files import new_folder
    from searchrl.queries.generate import as_dataset

    print(describe.models(models))
    print(f"dataset: {dataset.name}, {len(dataset.corpus)} documents")
    output = config.output or Path("runs") / f"queries-{dataset.name}.jsonl"
    check_output_file(output, "--output")
    if config.export_beir:
        with new_folder(config.export_beir):
            pass  # tried now rather than after the work
        config.export_beir.rmdir()
    bank = _make(config, dataset, models, output)
    write_query_bank(output, bank)
    print(f"query bank: {output}, {len(bank.queries)} queries; train on it with --query-bank {output}")
    if config.export_beir:
        exported = as_dataset(dataset, bank, config.seed)
        write_beir_folder(exported, config.export_beir)
        sizes = ", ".join(f"{len(queries)} {split}" for split, queries in exported.splits.items())
        print(f"dataset folder: {config.export_beir}, queries: {sizes}")


def _make(config: GenerateConfig, dataset: Dataset, models: Models, output: Path) -> QueryBank:
    from searchrl.data.query_bank import BankHeader, QueryBank
    from searchrl.errors import ModelError
    from searchrl.experiment.parts import make_retriever, make_writer
    from searchrl.models.prompts import load_prompts
    from searchrl.queries.generate import Filters, Generator
    from searchrl.queries.writing import QuestionWriter

    corpus, judge, prompts = dataset.corpus, models.reward_model, load_prompts(config.prompts)
    lm, name = make_writer(models.settings, models.loader), next(iter(models.language_models.values())).name
    retriever = make_retriever(corpus, models.encoder, models.cache, show_progress=True)
    writer = QuestionWriter(lm, prompts, corpus, retriever.lexical, config.queries_per_doc, config.seed)
    generator = Generator(writer, Filters(corpus, retriever, judge), config.seed, _progress)
    wanted: dict[QueryType, int] = {
        "single": config.num_single,
        "multi": config.num_multi,
        "adversarial": config.num_adversarial,
    }
    made = [generator.make(kind, number) for kind, number in wanted.items() if number]
    print(_table(made))
    queries = [query for one in made for query in one.queries]
    if not queries:
        raise ModelError(
            f"{name} asked no question that can be kept, so {output} is not written; "
            "raise --num-single, or use a larger model"
        )
    for one in made:
        _tell(one, config.show)
    header = BankHeader(
        model=f"{name} {lm.fingerprint}",
        prompt_version=f"{prompts.version} {prompts.digest(*wanted)}",
        corpus_fingerprint=corpus.fingerprint,
        seed=config.seed,
        judge=judge.fingerprint if judge else None,
        settings={**{f"num_{kind}": n for kind, n in wanted.items()}, "queries_per_doc": config.queries_per_doc},
    )
    return QueryBank(header, queries)


def _progress(made: GeneratedQueries) -> None:
    print(f"{made.kind}: {len(made.queries)} of {made.wanted} queries, from {made.sources} sources", flush=True)


def _tell(made: GeneratedQueries, show: int) -> None:
    """Some queries of one type, and why there are not more."""
    if made.missing:
        print(f"note: {made.missing} {made.kind} queries are missing: {made.sources} sources gave no more")
    for query in made.queries[:show]:
        print(f"  {query.type}, {' + '.join(query.source_ids)}: {query.text}")


def _table(made: Sequence[GeneratedQueries]) -> str:
    """How many questions were kept, and why the others were not, by type."""
    from searchrl.evaluation.text_table import text_table
    from searchrl.queries.cleaning import REASONS

    rows = [["kept", *(_share(len(one.queries), one.asked) for one in made)]]
    for reason, why in REASONS.items():
        rows.append([f"{reason}: {why}", *(_share(one.rejected[reason], one.asked) for one in made)])
    return text_table(["questions", *(one.kind for one in made)], [*rows, ["asked", *(str(one.asked) for one in made)]])


def _share(number: int, total: int) -> str:
    return f"{number} ({number / total:.0%})"
