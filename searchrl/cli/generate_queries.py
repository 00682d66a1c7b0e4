"""``generate_queries.py``: queries for the documents of a dataset, written by a language model, to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from searchrl.checks import at_least
from searchrl.command import check_output_file, parse, run_command
from searchrl.config import CollectionConfig, ComputeConfig, DataConfig, EngineConfig, JudgeMethod, ModelConfig
from searchrl.errors import ConfigError

if TYPE_CHECKING:
    from searchrl.data.dataset import Dataset
    from searchrl.data.query_bank import QueryBank
    from searchrl.experiment.parts import Models
    from searchrl.queries.generate import GeneratedQueries


@dataclass(frozen=True)
class GenerateConfig:
    """Have a language model write queries for the documents of a dataset, to train on: of one document, of two that
    belong together, and adversarial ones, whose words lead a search elsewhere. The default numbers are for a CPU; on a
    GPU, take 1000, 200 and 200.
    """

    dataset: str = "pydocs"
    """pydocs (embedded), a BEIR folder, or nfcorpus, scifact, fiqa, arguana, scidocs (downloaded)."""
    num_single: int = 200
    """Queries to make that one document answers."""
    num_multi: int = 50
    """Queries to make that two neighbouring documents answer."""
    num_adversarial: int = 50
    """Queries to make whose document BM25 does not put first."""
    queries_per_doc: int = 3
    """Questions to ask about each document, or pair of them; bad ones are rejected, so fewer are kept."""
    output: Path | None = None
    """The query bank to write; runs/queries-<dataset>.jsonl if not given. Replaced if it exists."""
    export_beir: Path | None = None
    """Also write a dataset folder: the documents, the queries as train and dev, the dataset's own test queries."""
    show: int = 5
    """Queries of each type to print."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    lm: str = "auto"
    """smollm2-135m (comes with the installation), qwen2.5-1.5b, qwen2.5-3b, a hub name or a folder; auto by device."""
    judge: JudgeMethod | Literal["none"] = "auto"
    """How the language model compares a query's documents with others; auto: likelihood below about 1B parameters, else
    graded; none: it does not."""
    prompts: Path | None = None
    """TOML file that overrides prompts of searchrl/prompts.toml; read here: generate and judge."""
    collection: CollectionConfig = field(default_factory=CollectionConfig)
    seed: int = 42
    """Seeds the choice of documents, and which of the exported queries become dev."""
    serving: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot be generated."""
        for name in ("num_single", "num_multi", "num_adversarial", "show", "seed"):
            at_least(name, getattr(self, name), 0)
        if not (self.num_single or self.num_multi or self.num_adversarial):
            raise ConfigError("--num-single 0, --num-multi 0, --num-adversarial 0: nothing to make; raise one of them")
        at_least("queries_per_doc", self.queries_per_doc, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl generate-queries``."""
    run_command(_generate, arguments)


def _generate(arguments: Sequence[str]) -> None:
    config = parse(GenerateConfig, arguments, "generate_queries.py")
    from searchrl.experiment.parts import open_writer
    from searchrl.experiment.prepare import read_collection

    data = DataConfig(config.dataset, config.collection.data_dir, config.collection.mirror)
    models = ModelConfig(
        device=config.compute.device,
        lm=config.lm,
        judge="auto" if config.judge == "none" else config.judge,
        prompts=config.prompts,
        cache=config.compute.cache,
        serving=config.serving,
    )
    with open_writer(models, judges=config.judge != "none", show_progress=True) as opened:
        try:
            _generate_from(config, read_collection(data, config.seed).dataset, opened)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "answers so far are kept; go on with the same command" if config.compute.cache else ""
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
    from searchrl.errors import ModelError
    from searchrl.experiment.generate import generate

    generated = generate(
        dataset.corpus,
        models,
        {"single": config.num_single, "multi": config.num_multi, "adversarial": config.num_adversarial},
        per_document=config.queries_per_doc,
        seed=config.seed,
        watch=_progress,
        show_progress=True,
    )
    print(_table(generated.made))
    if not generated.bank.queries:
        raise ModelError(
            f"{next(iter(models.language_models.values())).name} asked no question that can be kept, so {output} is "
            "not written; raise --num-single, or use a larger model"
        )
    for one in generated.made:
        _tell(one, config.show)
    return generated.bank


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
