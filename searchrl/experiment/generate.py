"""Queries for the documents of a corpus, written by a language model and kept where search and reward model agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from searchrl.data.dataset import Corpus
from searchrl.data.query_bank import BankHeader, QueryBank, QueryType
from searchrl.experiment.parts import Models, make_retriever, make_writer
from searchrl.models.prompts import load_prompts
from searchrl.queries.generate import Filters, GeneratedQueries, Generator
from searchrl.queries.writing import QuestionWriter


@dataclass(frozen=True)
class Generated:
    """What was made of each type, and all of it as a bank, which may be empty."""

    made: Sequence[GeneratedQueries]
    bank: QueryBank


def generate(
    corpus: Corpus,
    models: Models,
    wanted: Mapping[QueryType, int],
    *,
    per_document: int,
    seed: int,
    watch: Callable[[GeneratedQueries], None] | None = None,
    show_progress: bool = False,
) -> Generated:
    """Have the models of ``open_writer`` write so many queries of each type. watch: told after every round."""
    judge, prompts = models.reward_model, load_prompts(models.settings.prompts)
    lm = make_writer(models.settings, models.writers)
    name = next(lm.name for does, lm in models.language_models.items() if "writes" in does)
    retriever = make_retriever(
        corpus, models.encoder, models.cache, indexing=models.settings.indexing, show_progress=show_progress
    )
    writer = QuestionWriter(lm, prompts, corpus, retriever.index, per_document, seed)
    generator = Generator(writer, Filters(corpus, retriever, judge), seed, watch)
    made = [generator.make(kind, number) for kind, number in wanted.items() if number]
    header = BankHeader(
        model=f"{name} {lm.fingerprint}",
        prompt_version=f"{prompts.version} {prompts.digest(*wanted)}",
        corpus_fingerprint=corpus.fingerprint,
        seed=seed,
        judge=judge.fingerprint if judge else None,
        settings={**{f"num_{kind}": n for kind, n in wanted.items()}, "queries_per_doc": per_document},
    )
    return Generated(made, QueryBank(header, [query for one in made for query in one.queries]))
