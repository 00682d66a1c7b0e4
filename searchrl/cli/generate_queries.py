"""``generate_queries.py``: questions about the documents of a dataset, written by a language model, to train on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.command import check_output_file, parse, run_command
from searchrl.config import DataConfig, GameConfig, GenerateConfig, ModelConfig

if TYPE_CHECKING:
    from searchrl.assemble import Workbench
    from searchrl.querygen.single import SingleQueries

EXAMPLES = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``generate_queries.py`` and ``searchrl-generate-queries``."""
    run_command(_generate, arguments)


def _generate(arguments: Sequence[str]) -> None:
    config = parse(GenerateConfig, arguments, "generate_queries.py")
    from searchrl.assemble import Workbench

    data = DataConfig(config.dataset, config.data_dir, config.mirror)
    models = ModelConfig(
        device=config.device, lm=config.lm, prompts=config.prompts, cache=config.cache, serving=config.serving
    )
    with closing(Workbench(data, models, GameConfig(retriever="dense", reward="qrels"), config.seed)) as bench:
        try:
            _generate_from(config, bench)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "answers so far are kept; go on with the same command" if config.cache else ""
            ) from None


def _generate_from(config: GenerateConfig, bench: Workbench) -> None:
    from searchrl.cli import describe
    from searchrl.data.query_bank import BankHeader, QueryBank, write_query_bank
    from searchrl.errors import ModelError
    from searchrl.querygen.single import choose_documents, generate_single

    print(describe.models(bench, uses_lm=True))
    corpus = bench.dataset.corpus
    print(f"dataset: {bench.dataset.name}, {len(corpus)} documents")
    output = config.output or Path("runs") / f"queries-{bench.dataset.name}.jsonl"
    check_output_file(output, "--output")
    documents = choose_documents(corpus, config.num_single, config.seed)
    prompts, lm, retriever = bench.prompts, bench.lm, bench.retriever
    made = generate_single(corpus, documents, lm, prompts.single, retriever)
    print(_table(made))
    if not made.queries:
        raise ModelError(
            f"{bench.language_model.name} asked no question that can be kept, so {output} is not written; "
            "raise --num-single, or use a larger model"
        )
    header = BankHeader(
        model=f"{bench.language_model.name} {lm.fingerprint}",
        prompt_version=f"{prompts.version} {prompts.digest('single')}",
        corpus_fingerprint=corpus.fingerprint,
        seed=config.seed,
    )
    write_query_bank(output, QueryBank(header, made.queries))
    for query in made.queries[:EXAMPLES]:
        print(f"  {query.source_ids[0]}: {query.text}")
    print(f"query bank: {output}, {len(made.queries)} queries; train on it with --query-bank {output}")


def _table(made: SingleQueries) -> str:
    """How many questions were kept, and why the others were not."""
    from searchrl.evaluation.text_table import text_table
    from searchrl.querygen.single import REASONS

    counts = {"kept": len(made.queries), **{f"{reason}: {REASONS[reason]}": n for reason, n in made.rejected.items()}}
    rows = [[name, str(n), f"{n / made.asked:.0%}"] for name, n in counts.items()]
    return text_table(["questions", "number", "share"], [*rows, ["asked", str(made.asked), "100%"]])
