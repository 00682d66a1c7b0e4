"""``searchrl beir embed|rerank|ndcg``: a BEIR evaluation in stages; each reads what the one before wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from searchrl.checks import at_least, between
from searchrl.cli import Stages, do_stage
from searchrl.command import run_command
from searchrl.config import CollectionConfig, ComputeConfig, DtypeName, EngineConfig, ScorerName, SplitName
from searchrl.errors import ConfigError

if TYPE_CHECKING:
    from searchrl.data.dataset import Dataset, QuerySet


@dataclass(frozen=True)
class JudgedConfig:
    """Which collection, and which of its queries."""

    dataset_path: str
    """A BEIR folder, or a name: nfcorpus, scifact, fiqa, arguana, scidocs (downloaded where missing), pydocs."""
    split: SplitName = "test"
    """Queries with judgments in this split."""
    collection: CollectionConfig = field(default_factory=CollectionConfig)

    def load(self) -> tuple[Dataset, QuerySet]:
        """The collection and its judged queries, which are described. Raises DataError where there are none."""
        from searchrl.evaluation import stages

        where = self.collection
        dataset = stages.load_collection(self.dataset_path, where.data_dir, where.mirror, where.own_document)
        queries = stages.judged_queries(dataset, self.split)
        print(stages.describe(dataset, self.split, queries), flush=True)
        return dataset, queries


@dataclass(frozen=True)
class ServedConfig:
    """What runs the model, and where."""

    compute: ComputeConfig = field(default_factory=ComputeConfig)
    serving: EngineConfig = field(default_factory=EngineConfig)
    num_instances: int = 1
    """Copies of the model: one in this process; several are a server's (--engine http)."""

    def __post_init__(self) -> None:
        at_least("num_instances", self.num_instances, 1)
        if self.num_instances > 1:
            raise ConfigError(
                f"--num-instances {self.num_instances}: one process runs one copy of a model. Start a server with "
                f"several (vllm serve MODEL --data-parallel-size {self.num_instances}) and use --engine http without "
                "this flag"
            )


@dataclass(frozen=True)
class EmbedConfig:
    """Rank a BEIR collection's documents for each query by embeddings, and measure the rankings on human judgments."""

    data: JudgedConfig
    output: Path
    """JSON records to rerank: query_id, key_ids, scores, positive_key_ids."""
    output_eval: Path
    """JSON query id -> document id -> score; NAME.run (TREC) and NAME.metrics.json are written beside it."""
    model_name: str | None = None
    """Any sentence-transformers model or folder. By default all-MiniLM-L6-v2, which comes with the installation, or the
    model that is served."""
    top_k: int = 100
    """Documents kept for each query."""
    similarity_device: str = "auto"
    """Where similarities are computed: auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    model: ServedConfig = field(default_factory=ServedConfig)

    def __post_init__(self) -> None:
        at_least("top_k", self.top_k, 1)
        serving = self.model.serving
        if serving.engine == "vllm" or serving.golden:
            flag = "--engine vllm" if serving.engine == "vllm" else "--golden"
            raise ConfigError(f"{flag} is for language models; to embed, start a server and use --engine http")


@dataclass(frozen=True)
class RerankConfig:
    """Reorder the top of the embed stage's rankings by a reward model's scores, and measure before and after."""

    data: JudgedConfig
    embed_output: Path
    """Records that the embed stage wrote to its --output."""
    output_eval: Path
    """JSON query id -> document id -> score; NAME.run (TREC) and NAME.metrics.json are written beside it."""
    output: Path | None = None
    """JSON records, as the embed stage's, with the order before and the reward model's own scores."""
    model_name: str | None = None
    """A causal language model, a reward model with one output or a cross-encoder: preset, hub name or folder; by
    default the device's language model (on a cpu smollm2-135m, which is installed with SearchRL), or the one served."""
    scorer: ScorerName = "auto"
    """What the model is; auto: told from its files, and a causal language model judges by likelihood below about 1B
    parameters, else by grades."""
    interpolate: float = 0.4
    """Weight of the reward model's scores against the embedding's, as z-scores; 1 is the reward model alone."""
    top_k: int = 20
    """Documents of each ranking to score; the others stay below them, in the order they had."""
    request_batch_size: int = 128
    """Pairs scored together; what a kill loses at most."""
    dtype: DtypeName = "auto"
    """Numeric format of the model; auto: the device's, int8 where that was measured to do."""
    model: ServedConfig = field(default_factory=ServedConfig)

    def __post_init__(self) -> None:
        at_least("top_k", self.top_k, 1)
        at_least("request_batch_size", self.request_batch_size, 1)
        between("interpolate", self.interpolate, 0, 1)


@dataclass(frozen=True)
class NdcgConfig:
    """Measure rankings on a BEIR collection's human judgments: nDCG, MAP, Recall, P and MRR at some cutoffs.

    Every judged query counts: one that a file does not rank scores 0. Which of several is better, and whether that is
    chance, is what searchrl compare says.
    """

    results: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE ...")]
    """Rankings: --output-eval or --output of the other stages, or TREC runs."""
    data: JudgedConfig
    k_values: tuple[int, ...] = (1, 3, 5, 10, 100)
    """Cutoffs."""
    measures: tuple[str, ...] = ()
    """Further measures, as ir_measures names them: AP, RR@10, ERR@20, P(rel=2)@5, Rprec, Bpref ..."""
    output: Path | None = None
    """JSON file with the means and every query's values."""

    def __post_init__(self) -> None:
        if not self.results:
            raise ConfigError("name the files to measure: --output-eval of the embed and rerank stages, or TREC runs")
        if not self.k_values or min(self.k_values) < 1:
            raise ConfigError(f"--k-values {' '.join(map(str, self.k_values))}: give cutoffs of at least 1")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl beir``."""
    run_command(lambda given: do_stage("beir", STAGES, given), arguments)


def run_stage(name: str, arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.evaluation.NAME``."""
    run_command(lambda flags: do_stage("beir", STAGES, [name, *flags]), arguments)


def embed(config: EmbedConfig) -> None:
    """``searchrl beir embed``."""
    from searchrl.device import choose_device
    from searchrl.evaluation import results as files
    from searchrl.evaluation import stages
    from searchrl.files import cache_dir
    from searchrl.models.loader import ModelLoader

    evaluation = stages.evaluation_outputs("--output-eval", config.output_eval)
    stages.check_outputs(("--output", config.output), *evaluation)
    similarity = choose_device(config.similarity_device)
    compute = config.model.compute
    with closing(ModelLoader(config.model.serving, device=compute.device)) as loader:
        encoder = loader.encoder(config.model_name)
        dataset, queries = config.data.load()
        cache = cache_dir() if compute.cache else None
        ranked = stages.embed(dataset, queries, encoder, top_k=config.top_k, cache=cache, device=similarity.device)
    files.write_records(config.output, ranked, queries.qrels)
    means = files.write_evaluation(config.output_eval, ranked, queries.qrels, "embed")
    print(_metrics_table({"embed": means}))


def rerank(config: RerankConfig) -> None:
    """``searchrl beir rerank``."""
    from searchrl.evaluation import results as files
    from searchrl.evaluation import stages
    from searchrl.models.loader import ModelLoader
    from searchrl.reward.registry import ScorerSettings, make_reward

    evaluation = stages.evaluation_outputs("--output-eval", config.output_eval)
    stages.check_outputs(("--output", config.output), *evaluation, inputs=[config.embed_output])
    ranked = files.read_records(config.embed_output)
    dataset, queries = config.data.load()
    stages.resolve(ranked, queries, dataset.corpus, config.embed_output)  # before a model is loaded
    served, compute = config.model.serving, config.model.compute
    with closing(ModelLoader(served, device=compute.device, dtype=config.dtype, cache=compute.cache)) as loader:
        after = stages.rerank(
            ranked,
            queries,
            dataset.corpus,
            make_reward(config.model_name, ScorerSettings(config.scorer), loader),
            top_k=config.top_k,
            weight=config.interpolate,
            batch_size=config.request_batch_size,
            source=config.embed_output,
        )
    if config.output:
        more = [
            {"pre_key_ids": query.key_ids, "embed_scores": query.scores, "rerank_scores": row[: len(query.key_ids)]}
            for query, row in zip(ranked, after.scores.tolist(), strict=True)
        ]
        files.write_records(config.output, after.ranked, queries.qrels, more)
    means = {
        "embed": files.mean_values(files.judge(ranked, queries.qrels)),
        "rerank": files.write_evaluation(config.output_eval, after.ranked, queries.qrels, "rerank"),
    }
    print(_metrics_table(means))


def ndcg(config: NdcgConfig) -> None:
    """``searchrl beir ndcg``."""
    from searchrl.data.own_document import own_ids, without
    from searchrl.evaluation import results as files
    from searchrl.evaluation import stages
    from searchrl.evaluation.measures import evaluate, parse_measure
    from searchrl.evaluation.text_table import number, text_table

    stages.check_outputs(("--output", config.output), inputs=config.results)
    for measure in config.measures:
        parse_measure(measure)
    results = {str(path): files.read_results(path) for path in config.results}
    dataset, queries = config.data.load()

    at_cutoffs = ("nDCG", "MAP", "Recall", "P", "MRR")
    names = [*(f"{name}@{k}" for name in at_cutoffs for k in config.k_values), *config.measures]
    values, own = {}, own_ids(queries, dataset.corpus)
    for path, run in results.items():
        stages.check_answered(run, queries, path)
        values[path] = evaluate(without(run, own), queries.qrels, names)
    if config.output:
        files.write_metrics(config.output, values)
    for path, by_measure in values.items():
        means = files.mean_values(by_measure)
        rows = [[f"@{k}", *(number(means[f"{name}@{k}"]) for name in at_cutoffs)] for k in config.k_values]
        print(f"\n{path}\n{text_table(['cutoff', *at_cutoffs], rows)}")
        if config.measures:
            print(f"\n{text_table(['measure', 'mean'], [[name, number(means[name])] for name in config.measures])}")


def _metrics_table(systems: Mapping[str, Mapping[str, float]]) -> str:
    """Means by system and measure, as text."""
    from searchrl.evaluation.text_table import number, text_table

    measures: Sequence[str] = list(next(iter(systems.values())))
    rows = [[name, *(number(means[measure]) for measure in measures)] for name, means in systems.items()]
    return text_table(["ranking", *measures], rows)


STAGES: Stages = {
    "embed": (EmbedConfig, embed),
    "rerank": (RerankConfig, rerank),
    "ndcg": (NdcgConfig, ndcg),
}
