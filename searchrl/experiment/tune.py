"""From documents to a search agent that was trained and measured on them, with a recommendation in plain words.

Queries are written about the documents, in three parts: to train on, to choose by, to report. Queries that begin from
the same document are in the same part.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from searchrl.agent.checkpoint import save_policy
from searchrl.config import DataConfig, GameConfig, LearningConfig, ModelConfig, OutputConfig, TrainConfig
from searchrl.data.beir import write_beir_folder
from searchrl.data.dataset import Corpus, Dataset, QuerySet, Split
from searchrl.data.own_document import own_document
from searchrl.data.query_bank import QueryBank, load_query_bank_for, write_query_bank
from searchrl.errors import DataError
from searchrl.evaluation.comparison import PLAIN, ComparisonTable
from searchrl.evaluation.measures import evaluate_ranking
from searchrl.evaluation.text_table import number, text_table
from searchrl.experiment.callbacks import Listener
from searchrl.experiment.evaluate import Evaluated, Policy, evaluate_on
from searchrl.experiment.generate import generate
from searchrl.experiment.parts import Models, make_loader, make_retriever, open_models, open_writer
from searchrl.experiment.passages import Documents, read_documents
from searchrl.experiment.prepare import Collection, prepare_collections
from searchrl.experiment.train import train
from searchrl.files import write_text
from searchrl.queries.generate import GeneratedQueries

Choice = Literal["dense", "hybrid", "agent"]
METHODS: dict[Choice, tuple[str, str]] = {
    "dense": ("dense", "one plain search by meaning"),
    "hybrid": ("hybrid", "one plain search by meaning and words"),
    "agent": ("rl_agent", "the trained agent"),
}
"""What can be served, simplest first -> its row in the tables, and what it is."""
TRUST = (0.0, 0.3, 0.5)
"""Shares of the reward model in a ranking. A larger one wins on generated queries, whose documents a language model
likes to find again, and loses on people's; see docs/LOG.md."""
SHOWN = ("nDCG@10", "Recall@100")
QUERIES_FILE, COLLECTION, POLICY, FACTS, REPORT = "queries.jsonl", "collection", "policy.pt", "tune.json", "report.md"


@dataclass(frozen=True)
class Tuned:
    """What was found out. judged: on people's judgments, where there are any."""

    documents: Documents
    dev: Evaluated
    test: Evaluated
    judged: Evaluated | None
    choice: Choice
    recommendation: str


def tune(
    source: str,
    output: Path,
    *,
    queries: int = 300,
    passage: int = 2000,
    text_column: str = "text",
    fit: bool = False,
    models: ModelConfig | None = None,
    learning: LearningConfig | None = None,
    listener: Listener | None = None,
) -> Tuned:
    """Write queries about documents, train an agent, and measure it beside plain searches; all goes into ``output``.

    The same call again goes on where it stopped: vectors, answers of language models, queries and search graphs are
    kept. fit: also fit the language model to judge these documents. Raises what its parts raise.
    """
    models, learning, listener = models or ModelConfig(), learning or LearningConfig(), listener or Listener()
    documents = read_documents(source, passage, text_column)
    listener.say(_documents_line(documents))
    for line in documents.skipped:
        listener.say(f"  left out: {line}")
    bank = _bank(documents.corpus, output / QUERIES_FILE, queries, models, learning.seed, listener)
    dataset = Dataset(output.resolve().name, documents.corpus, split(bank, learning.seed))
    shutil.rmtree(output / COLLECTION, ignore_errors=True)
    write_beir_folder(dataset, output / COLLECTION)
    game = GameConfig(reward="qrels", trust=TRUST)
    if fit:
        models = replace(models, lm=str(_fitted(output, models, learning.seed, listener.say)))
    data = DataConfig(dataset=str(output / COLLECTION))
    with open_models(models, game, listener.show_progress) as opened:
        listener.on_models(opened)
        known = {f"{len(bank.queries)} generated": bank.query_set()}
        if by_people := documents.judged:
            known[f"{len(_asked(by_people))} judged"] = _asked(by_people)
        for kind, asked in known.items():
            listener.say(f"plain searches, {kind} queries:\n{plain_searches(documents.corpus, asked, opened)}")
        collection = Collection(dataset, dataset.splits, output / QUERIES_FILE)
        prepared = prepare_collections([collection], opened, data, game, listener)
        recorded = TrainConfig(data, models, game, learning, OutputConfig(runs_dir=output))
        best = train(prepared, learning, recorded=recorded).best
        save_policy(output / POLICY, best)
        policy = Policy(str(output / POLICY), best)

        def measured(found: Collection, split: Split) -> Evaluated:
            return evaluate_on(
                found, opened, policy, game, split, seed=learning.seed, show_progress=listener.show_progress
            )

        dev, test = measured(collection, "dev"), measured(collection, "test")
        judged = measured(Collection(by_people), _judged_split(by_people)) if by_people else None
    choice = choose(dev.table)
    words = recommend(choice, (judged or test).table, judged is not None)
    tuned = Tuned(documents, dev, test, judged, choice, words)
    _write(output, tuned, models)
    return tuned


def _judged_split(dataset: Dataset) -> Split:
    return "test" if "test" in dataset.splits else "dev"


def _asked(dataset: Dataset) -> QuerySet:
    return dataset.splits[_judged_split(dataset)]


def plain_searches(corpus: Corpus, queries: QuerySet, models: Models) -> str:
    """A table of what plain searches find, which needs no judging and so is there long before the others."""
    cache, indexing = models.cache, models.settings.indexing
    retriever = make_retriever(corpus, models.encoder, cache, indexing=indexing)
    asked, own = retriever.queries(queries.texts), own_document(queries, corpus)
    rows = []
    for name, share in PLAIN.items():
        ranking = retriever.search(retriever.queries(queries.texts, share, asked.vectors), own)
        values = evaluate_ranking(ranking, queries, corpus.ids, SHOWN)
        rows.append([name, *(number(float(values[measure].mean())) for measure in SHOWN)])
    return text_table(["method", *SHOWN], rows)


def split(bank: QueryBank, seed: int) -> dict[Split, QuerySet]:
    """Train, dev and test queries; those that begin from the same document are together.

    Raises DataError where there are too few.
    """
    outer = bank.splits(seed)
    kept = set(outer["train"].ids)
    # Drawn anew: by the same numbers, who was not among the lowest before is not now.
    inner = QueryBank(bank.header, [query for query in bank.queries if query.id in kept]).splits(seed + 1)
    if "dev" not in outer or "dev" not in inner:
        raise DataError(
            f"{len(bank.queries)} queries could be written about these documents, too few to learn from and to "
            "measure by; more documents are needed, or a higher `queries`"
        )
    return {**inner, "test": outer["dev"]}


def choose(dev: ComparisonTable) -> Choice:
    """What found most on the dev queries; of equals the simplest."""
    means = {method.name: method.means[dev.measure] for method in dev.methods}
    return max(METHODS, key=lambda name: round(means[METHODS[name][0]], 4))


def recommend(choice: Choice, table: ComparisonTable, judged: bool) -> str:
    """The choice in words, with what it earns on queries that nobody learned from or chose by."""
    means = {method.name: method.means[table.measure] for method in table.methods}
    row, what = METHODS[choice]
    others = [f"{words} {means[name]:.3f}" for name, words in METHODS.values() if name != row]
    queries = f"{len(table.methods[0].steps)} {'judged' if judged else 'held-out generated'} queries"
    text = (
        f"Use {what}: {table.measure} {means[row]:.3f} on {queries} (1 is perfect); {', '.join(others)}. "
        f"Perfect choices at every step would earn {means['oracle']:.3f}."
    )
    if choice == "agent":
        p = next(test.p_holm for test in table.tests if (test.method, test.baseline) == ("rl_agent", "single_pass"))
        text += f" Against one plain search by meaning, p = {p:.3f}"
        text += "." if p < 0.05 else ": that may be chance; more queries would tell."
    return text


def _bank(corpus: Corpus, file: Path, wanted: int, models: ModelConfig, seed: int, listener: Listener) -> QueryBank:
    """The queries that were written before about the same documents, or new ones: two thirds about one document, the
    others about two, or such as mislead BM25.
    """
    settings = {"single": wanted - wanted // 6 * 2, "multi": wanted // 6, "adversarial": wanted // 6}
    if file.is_file():
        try:
            bank = load_query_bank_for(file, corpus)
        except DataError as error:
            listener.say(f"queries are written anew: {error}")
        else:
            if {f"num_{kind}": n for kind, n in settings.items()}.items() <= bank.header.settings.items():
                listener.say(f"queries: {len(bank.queries)}, written before ({file})")
                return bank

    def watch(made: GeneratedQueries) -> None:
        listener.say(f"{made.kind}: {len(made.queries)} of {made.wanted} queries, from {made.sources} sources")

    with open_writer(models, judges=True, show_progress=listener.show_progress) as opened:
        wanted_of = {"single": settings["single"], "multi": settings["multi"], "adversarial": settings["adversarial"]}
        bank = generate(
            corpus,
            opened,
            wanted_of,  # type: ignore[arg-type]
            per_document=3,
            seed=seed,
            watch=watch,
            show_progress=listener.show_progress,
        ).bank
    if not bank.queries:
        raise DataError("no query could be written about these documents; a larger `lm` may do better")
    write_query_bank(file, bank)
    return bank


def _fitted(output: Path, models: ModelConfig, seed: int, say: Callable[[str], None]) -> Path:
    """The language model that judges, fitted to these documents by preferences among them."""
    from searchrl.config import ComputeConfig
    from searchrl.fitting.pipeline import pipeline
    from searchrl.fitting.settings import FittingConfig, LoraSettings, PipelineConfig

    folder = output / "fitting"
    named = None if models.lm == "auto" else models.lm
    pipeline(
        PipelineConfig(
            str(output / COLLECTION),
            folder,
            writer=named,
            serving=models.serving,
            lora=LoraSettings(make_loader(models).reward_model_name(named, models.judge)),
            fitting=FittingConfig(seed=seed),
            dtype=models.dtype,
            compute=ComputeConfig(models.device, models.cache),
        ),
        say,
    )
    return (folder / "model" / "merged").resolve()


def _documents_line(documents: Documents) -> str:
    cut = f", cut into {len(documents.corpus)} passages" if len(documents.corpus) > documents.documents else ""
    left = f"; {len(documents.skipped)} left out" if documents.skipped else ""
    return f"documents: {documents.documents}{cut}{left}"


def _write(output: Path, tuned: Tuned, models: ModelConfig) -> None:
    """The tables, the report, and what ``searchrl search`` and ``searchrl serve`` have to know."""
    parts = {"results": tuned.test} | ({"results-judged": tuned.judged} if tuned.judged else {})
    lines = ["# Search in these documents", "", tuned.recommendation, "", _documents_line(tuned.documents), ""]
    for name, evaluated in parts.items():
        (output / name).mkdir(parents=True, exist_ok=True)
        evaluated.write(output / name)
        kind = "judged" if name == "results-judged" else "held-out generated"
        lines += [f"## {len(evaluated.queries)} {kind} queries", "", "```text", evaluated.table.summary_text(), "```"]
        lines += ["", f"All figures, query by query: {name}/report.html", ""]
    lines += ["## Next", "", "```sh", *commands(output), "```", ""]
    if tuned.documents.skipped:
        lines += ["## Left out", "", *(f"- {line}" for line in tuned.documents.skipped), ""]
    write_text(output / REPORT, "\n".join(lines))
    facts = {"choice": tuned.choice, "encoder": models.encoder, "source": tuned.documents.source}
    write_text(output / FACTS, json.dumps({**facts, "recommendation": tuned.recommendation}, indent=1) + "\n")


def commands(output: Path) -> list[str]:
    """What to run next."""
    return [f'searchrl search {output} "your question"', f"searchrl serve {output}"]
