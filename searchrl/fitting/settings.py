"""The settings of all stages: making preferences, training, and the pipeline over them. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from searchrl.checks import above, at_least, check_types
from searchrl.config import (
    CollectionConfig,
    ComputeConfig,
    DtypeName,
    EngineConfig,
    LanguageModelConfig,
    ScorerName,
    TrackerName,
)
from searchrl.errors import ConfigError
from searchrl.queries.cleaning import QueryKind

JudgeName = Literal["auto", "pairwise", "likelihood", "graded", "yes_no", "head", "source"]
LossName = Literal["pairwise", "listwise"]
ScorerFlag = Literal["auto", "likelihood", "pmi", "yes_no", "graded", "head"]

MOST_RUNGS = 5
"""Rungs of a ladder that a language model writes (``prompts.toml``)."""


def _all_at_least(config: object, least: float, *names: str) -> None:
    """Check settings of a group; None passes."""
    for name in names:
        if (value := getattr(config, name)) is not None:
            at_least(name, value, least)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} {value}: must be at least 0 and below 1")


@dataclass(frozen=True)
class ProcessDataConfig:
    """Read documents from anywhere, shuffle them, and write them as tables."""

    dataset_name: str
    """A folder of text files or tables, a BEIR folder, a .csv, .tsv, .jsonl, .json, .parquet or text file, a dataset's
    name (pydocs, scifact, ...), or owner/name on the Hugging Face hub."""
    output_dir: Path
    """Gets df.csv, df_small.csv (the first 10,000 rows) and the same as a `datasets` DatasetDict: dataset_dict.json and
    the folder train."""
    n_sample: int | None = None
    """Documents to keep; all if not given."""
    text_column: str = "text"
    """Field of tables and hub data sets that holds the text."""
    dataset_config: str | None = None
    """Configuration of a hub data set."""
    split: str = "train"
    """Split of a hub data set."""
    stream: bool = False
    """Stream a hub data set instead of downloading it whole; needs --n-sample."""
    random_seed: int = 42
    """Seeds the shuffle."""

    def __post_init__(self) -> None:
        _all_at_least(self, 1, "n_sample")
        at_least("random_seed", self.random_seed, 0)


@dataclass(frozen=True)
class DocumentsConfig:
    """The documents that queries are written about."""

    input_csv: Path
    """The documents: df.csv of process_data."""
    text_column: str = "text"
    """Column that holds the text."""
    max_documents: int = 0
    """Documents to work on, the first of the table; 0 for all."""

    def __post_init__(self) -> None:
        at_least("max_documents", self.max_documents, 0)


@dataclass(frozen=True)
class RankedConfig:
    """The candidates of queries, and what is drawn from them."""

    relevance_json: Path
    """relevance_records_embed.json of get_top_relevant_keys_embed."""
    source_csv: Path
    """The documents: df.csv of process_data."""
    source_column: str = "text"
    """Column that holds the text."""
    random_seed: int = 42
    """Seeds the draws."""

    def __post_init__(self) -> None:
        at_least("random_seed", self.random_seed, 0)


@dataclass(frozen=True)
class MakeQueryRecsConfig:
    """Have a language model write titles, questions and keywords for each document."""

    documents: DocumentsConfig
    output: Path
    """JSON records: query, df_id (the document's row), query-type."""
    kinds: tuple[QueryKind, ...] = ("titles", "questions", "keywords")
    """What to write."""
    per_document: int = 1
    """Queries of each kind for a document."""
    seed: int = 42
    """Seeds what is sampled: all but the first query of a kind."""
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)

    def __post_init__(self) -> None:
        at_least("per_document", self.per_document, 1)
        if not self.kinds:
            raise ConfigError("kinds is empty: titles, questions or keywords")


@dataclass(frozen=True)
class FilterQueryRecsConfig:
    """Keep queries of some kinds, once each, of a sensible length."""

    input: Path
    """query_recs.json of make_query_recs."""
    output: Path
    """The same records, fewer."""
    filter: tuple[str, ...] = ("questions",)
    """Kinds to keep (query-type): titles, questions, keywords; `all` for all."""
    min_words: int = 3
    """Words of a query at least; keywords are counted one by one."""
    max_words: int = 25
    """Words of a query at most."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.max_words:
            raise ConfigError(f"min_words {self.min_words} and max_words {self.max_words}: no length is both")


@dataclass(frozen=True)
class TopRelevantKeysConfig:
    """Find for each query the documents closest to it by embeddings, or by a reward model among these."""

    queries_json: Path
    """filtered_query_recs.json, or any JSON array of objects with a query."""
    keys_csv: Path
    """The documents: df.csv of process_data."""
    output: Path
    """relevance_records_embed.json: query, df_id, and keys, each with key_id (a document's row) and score."""
    key_column: str = "text"
    """Column that holds the text."""
    model_name: str | None = None
    """What embeds: any sentence-transformers model or folder; if not given, all-MiniLM-L6-v2, which is installed with
    SearchRL."""
    k_key: int = 50
    """Documents kept for each query."""
    batch_tokens: int = 0
    """Tokens embedded at a time, padding included; 0: 1,024 on a CPU, 32,768 elsewhere."""
    similarity_device: str = "auto"
    """Where similarities are computed: auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    reward_model: str | None = None
    """Order the k documents by this reward model instead: preset, hub name or folder."""
    scorer: ScorerName = "auto"
    """What the reward model is; auto: told from its files."""
    request_batch_size: int = 128
    """Pairs that the reward model scores together; what a kill loses at most."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    serving: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        _all_at_least(self, 1, "k_key", "request_batch_size")
        at_least("batch_tokens", self.batch_tokens, 0)
        if self.serving.engine == "vllm" or self.serving.golden:
            raise ConfigError("to embed, this stage takes the engines transformers and http")


@dataclass(frozen=True)
class SampleDpoBatchConfig:
    """Choose for each query its own document, others that were retrieved, and some at random."""

    ranked: RankedConfig
    output: Path
    """sampled_query_key_set.json: query, query_id, key_ids, keys, and where each key is from."""
    n_retrieved: int = 2
    """Documents drawn from those retrieved, the query's own left out."""
    n_random: int = 1
    """Documents drawn from all others."""

    def __post_init__(self) -> None:
        if self.n_retrieved < 0 or self.n_random < 0 or self.n_retrieved + self.n_random < 1:
            raise ConfigError("n_retrieved and n_random: at least one document must stand against a query's own")


@dataclass(frozen=True)
class SampleAdvancedDpoBatchConfig:
    """Choose for each query its own document and others of falling relevance, as the search ranked them."""

    ranked: RankedConfig
    output: Path
    """adpo_sampled_query_key_set.json: query, correspond_keys, sampled_keys (best first) and their sampled_levels."""
    n_sampled_keys: int = 4
    """Other documents for each query: the last at random from all, the rest at ever later places of the ranking."""
    order: bool = True
    """The order of the sampled keys counts; otherwise only that the query's own is better than each."""

    def __post_init__(self) -> None:
        at_least("n_sampled_keys", self.n_sampled_keys, 1)


@dataclass(frozen=True)
class JudgeDatasetConfig:
    """Have a judge pick chosen and rejected documents, and write the preferences to train on."""

    query_key_set: Path
    """sampled_query_key_set.json of sample_dpo_batch."""
    output_dir: Path
    """Gets dataset_list_train.json and dataset_list_test.json."""
    judge: JudgeName = "auto"
    """Who picks. pairwise: the language model is shown both documents, in both orders. likelihood, graded, yes_no: it
    scores each, as where it judges. head: a reward model's score. source: no model; the document that the query was
    written from is better than any other. auto: source below about 1B parameters, else pairwise."""
    compare: Literal["source", "all"] = "source"
    """source: pairs with the query's own document, where it has one. all: every pair, for which --judge source has no
    answer."""
    min_margin: float = 0.0
    """Drop pairs about which the judge is less sure: a difference of probabilities or scores."""
    agree_with_source: bool = False
    """Drop pairs in which the judge prefers another document to the query's own."""
    test_share: float = 0.1
    """Share of documents whose queries go into the test file."""
    seed: int = 42
    """Seeds the division into train and test."""
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)

    def __post_init__(self) -> None:
        if self.judge == "source" and self.compare == "all":
            raise ConfigError(
                "judge source says nothing about two documents that a query was not written from: "
                "compare source, or choose another judge"
            )
        _check_share("test_share", self.test_share)
        at_least("min_margin", self.min_margin, 0)


@dataclass(frozen=True)
class LessRelevantKeysConfig:
    """Make for each document a query, and further keys that are ever less relevant to it."""

    documents: DocumentsConfig
    output: Path
    """query_and_less_relevant_keys_recs.json: query, correspond_key, less_relevant_keys (best first), df_id."""
    queries_json: Path | None = None
    """Queries that are there: query_recs.json or filtered_query_recs.json; if not given, one is written for each
    document: a title, a question, keywords, in turn."""
    n_key_generation: int = 4
    """Less relevant keys for a query."""
    keys: Literal["auto", "corpus", "generate"] = "auto"
    """corpus: documents of the collection, at ever later places of a search for the query. generate: the language model
    rewrites the document, each time further from the query. auto: corpus below about 1B parameters, else generate."""
    depth: int = 100
    """With corpus: how far down the search the last key lies."""
    encoder: str | None = None
    """With corpus: what searches; all-MiniLM-L6-v2 if not given."""
    seed: int = 42
    """Seeds what is sampled."""
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)

    def __post_init__(self) -> None:
        _all_at_least(self, 1, "n_key_generation", "depth")
        if self.keys == "generate" and self.n_key_generation > MOST_RUNGS:
            raise ConfigError(f"n_key_generation {self.n_key_generation}: with keys generate at most {MOST_RUNGS}")


@dataclass(frozen=True)
class QueryDpoPairsConfig:
    """Make for each document a ladder of queries, from one that it answers to one that it does not."""

    documents: DocumentsConfig
    output: Path
    """query_dpo_pairs.json: key, queries (best first), df_id; with variant 3 chosen_queries and rejected_queries."""
    variant: Literal[1, 2, 3] | None = None
    """1: the language model writes every rung. 2: the document's own query, then those of other documents, ever further
    from it. 3: pairs of a question that the document answers and one that only uses its words. By default 2 below
    about 1B parameters, else 1."""
    queries_json: Path | None = None
    """With variant 2: the queries to use, query_recs.json or filtered_query_recs.json; if not given, a question is
    written for each document."""
    n_query_generation: int = 5
    """Queries on a ladder, the best included; with variant 3, pairs."""
    encoder: str | None = None
    """With variant 2: what says how close documents are; all-MiniLM-L6-v2 if not given."""
    seed: int = 42
    """Seeds what is sampled."""
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)

    def __post_init__(self) -> None:
        at_least("n_query_generation", self.n_query_generation, 1 if self.variant == 3 else 2)
        if self.variant == 1 and self.n_query_generation > MOST_RUNGS:
            raise ConfigError(f"n_query_generation {self.n_query_generation}: variant 1 has {MOST_RUNGS} rungs")
        if self.queries_json is not None and self.variant in (1, 3):
            raise ConfigError(f"queries_json is read by variant 2; variant {self.variant} writes its own queries")


@dataclass(frozen=True)
class PreferenceDataConfig:
    """What to learn from: preference lists in files, or a collection's human judgments."""

    dataset_list_train: Path | None = None
    """Preferences to train on: dataset_list_train.json of judge_dataset or sample_advanced_dpo_batch, or the records of
    an ADPO stage."""
    dataset_list_test: Path | None = None
    """Preferences to test on; if not given, --test-share of the training queries is held out."""
    dataset: str | None = None
    """Instead of files: a BEIR folder or a dataset's name, or several joined by commas. Relevant documents come from
    the judgments, the others from the tops of the dense and the BM25 ranking."""
    train_from_dev: bool = False
    """With --dataset: train on half of the dev queries where a dataset has no train split."""
    train_split: Literal["train", "dev", "test"] = "train"
    """With --dataset: the queries to train on."""
    test_split: Literal["train", "dev", "test"] = "dev"
    """With --dataset: the queries to test on; the dev split is made of train queries where there is none."""
    positives: int = 2
    """With --dataset: relevant documents of a query at most, drawn at random."""
    negatives: int = 3
    """With --dataset: other documents of a query, drawn from the tops of its rankings."""
    negatives_depth: int = 50
    """With --dataset: how far these tops reach."""
    random_negatives: int = 1
    """With --dataset: documents drawn from the whole collection besides."""
    encoder: str | None = None
    """With --dataset: what ranks; any sentence-transformers model or folder, all-MiniLM-L6-v2 if not given."""
    test_share: float = 0.1
    """Share of the queries of --dataset-list-train to hold out where --dataset-list-test is not given."""
    max_train: int | None = None
    """Lists to train on at most, drawn at random, of several datasets as many from each as it has; 0 for all. By
    default 360 on a CPU, all elsewhere."""
    max_test: int = 100
    """Lists to test on at most, drawn at random; 0 for all."""
    collection: CollectionConfig = field(default_factory=CollectionConfig)

    def __post_init__(self) -> None:
        check_types(self)
        if self.dataset is not None and self.dataset_list_test is not None:
            raise ConfigError("dataset_list_test goes with dataset_list_train; with dataset use test_split")
        if self.dataset is not None and self.train_split == self.test_split:
            raise ConfigError(f"train_split and test_split are both {self.test_split}: test on other queries")
        _all_at_least(self, 1, "positives", "negatives", "negatives_depth")
        _all_at_least(self, 0, "random_negatives", "max_train", "max_test")
        if not 0 < self.test_share < 1:
            raise ConfigError(f"test_share {self.test_share}: must lie between 0 and 1")


@dataclass(frozen=True)
class LoraSettings:
    """The model and its adapter."""

    model_name: str | None = None
    """A causal language model or a reward model with one output: preset, hub name or folder; by default the device's
    language model (on a cpu smollm2-135m, which is installed with SearchRL)."""
    scorer: ScorerFlag = "auto"
    """What is trained: a language model's likelihood, pmi, yes_no or graded score, or a reward head; auto: told from
    the model's files, and a language model by pmi below about 1B parameters, else by grades. pmi is the likelihood less
    that of the query by itself: it orders a query's documents as the likelihood does, and can be compared between
    queries."""
    new_head: bool = False
    """Put a new reward head on a causal language model and train that."""
    max_key_words: int | None = None
    """Words of a document that a language model reads; 80 by default, as where it judges."""
    prompts: Path | None = None
    """TOML file that overrides prompts of searchrl/prompts.toml."""
    r: int = 16
    """Rank of the adapter."""
    lora_alpha: int = 16
    """Its scaling, times r."""
    lora_dropout: float = 0.0
    """Dropout before the adapter."""
    target_modules: tuple[str, ...] = ()
    """Layers that get an adapter; by default the projections of attention and feed-forward layers."""
    last_layers: int | None = None
    """Put an adapter on so many layers at the end only: faster, because nothing before them is learned; 0 for all. By
    default a third of a language model's on a CPU, all elsewhere."""
    merge: bool = True
    """Write the model with the adapter worked in, OUTPUT_DIR/merged, which is used by name."""

    def __post_init__(self) -> None:
        check_types(self)
        _all_at_least(self, 1, "r", "lora_alpha", "max_key_words")
        _all_at_least(self, 0, "last_layers")
        _check_share("lora_dropout", self.lora_dropout)
        if self.new_head and self.scorer not in ("auto", "head"):
            raise ConfigError(f"new_head with scorer {self.scorer}: the new head is what is trained")
        if self.new_head and (self.max_key_words is not None or self.prompts is not None):
            raise ConfigError("max_key_words and prompts are for language models: with new_head, the model has a head")


@dataclass(frozen=True)
class FittingConfig:
    """How long and how fast."""

    epochs: float = 1.0
    """Times every list is met."""
    batch_size: int = 3
    """Lists in a forward pass: what memory must hold; more on a GPU (16)."""
    gradient_accumulation_steps: int = 1
    """Forward passes for an update."""
    learning_rate: float | None = None
    """Falls linearly to 0 after the warm-up. By default 3e-3 for a language model below about 1B parameters, else
    2e-4."""
    warmup_ratio: float = 0.05
    """Share of the updates in which the learning rate rises."""
    max_grad_norm: float = 1.0
    """Longer gradients are cut to this."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW)."""
    scale: float | None = None
    """A difference of scores times this is the logit of a preference; by default 1 for heads and yes_no, 3 for
    likelihoods, 10 for grades."""
    across_queries: bool | None = None
    """Also compare documents of different queries of a batch, so that scores mean the same from query to query; by
    default for every scorer but likelihood, which has no common scale."""
    gradient_checkpointing: bool | None = None
    """Compute the activations of adapted layers twice instead of keeping them: the same gradients, less memory, a fifth
    to a third more time. By default for reward heads on a CPU, which read longer texts than a language model's scores.
    """
    evaluation_steps: int = 100
    """Updates between two looks at the held-out lists."""
    save_steps: int = 25
    """Updates between two checkpoints; what a kill loses at most."""
    logging_steps: int = 10
    """Updates between two points of the curves."""
    seed: int = 42
    """Seeds adapter, order and samples."""

    def __post_init__(self) -> None:
        check_types(self)
        steps = ("evaluation_steps", "save_steps", "logging_steps")
        _all_at_least(self, 1, "batch_size", "gradient_accumulation_steps", *steps)
        _all_at_least(self, 0, "weight_decay", "seed")
        for name in ("epochs", "learning_rate", "max_grad_norm", "scale"):
            value = getattr(self, name)
            if value is not None:
                above(name, value, 0.0)
        _check_share("warmup_ratio", self.warmup_ratio)


@dataclass(frozen=True)
class TrackingConfig:
    """Who is told how it goes, besides TensorBoard."""

    tracker: TrackerName = "tensorboard"
    """Another tracker: trackio, wandb (offline unless $WANDB_MODE says otherwise), mlflow."""
    wandb_project: str | None = None
    """Log to this project of Weights & Biases (an extra: pip install wandb)."""
    wandb_run_name: str | None = None
    """Name of the run there."""
    wandb_mode: Literal["offline", "online"] = "offline"
    """offline: into OUTPUT_DIR/wandb, which `wandb sync` uploads."""

    def __post_init__(self) -> None:
        if self.wandb_project is None and self.wandb_run_name is not None:
            raise ConfigError("wandb_run_name needs wandb_project")


@dataclass(frozen=True)
class TrainLoraConfig:
    """Fit a reward model to preferences, pair by pair (Bradley and Terry's model), with a LoRA adapter."""

    loss: ClassVar[LossName] = "pairwise"
    output_dir: Path
    """Folder of the run: settings, checkpoints, TensorBoard curves, adapter, merged model. The same command again goes
    on where it stopped."""
    data: PreferenceDataConfig = field(default_factory=PreferenceDataConfig)
    lora: LoraSettings = field(default_factory=LoraSettings)
    fitting: FittingConfig = field(default_factory=FittingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    dtype: DtypeName = "auto"
    """Numeric format of the model; the adapter is trained in float32."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    overwrite: bool = False
    """Remove what another command left in --output-dir."""

    def __post_init__(self) -> None:
        if (self.data.dataset is None) == (self.data.dataset_list_train is None):
            raise ConfigError("give one of dataset_list_train and dataset, which say what to learn from")


@dataclass(frozen=True)
class TrainAdpoLoraConfig(TrainLoraConfig):
    """Fit a reward model to whole orders (Plackett and Luce's model; ListMLE, Xia et al. 2008), with a LoRA adapter."""

    loss: ClassVar[LossName] = "listwise"


@dataclass(frozen=True)
class ConvertConfig:
    """Make a checkpoint a model that is used by name: merge an adapter, read pickled weights, find the head."""

    checkpoint: Annotated[str, tyro.conf.Positional]
    """Folder of an adapter or a model, with safetensors or pytorch_model.bin; the head may have a file of its own."""
    output: Annotated[Path, tyro.conf.Positional]
    """Folder to make: a sequence-classification model, or a causal language model where there is no head."""


@dataclass(frozen=True)
class PipelineConfig:
    """Make queries about documents, find candidates, judge them, and fit a reward model to the preferences."""

    corpus: str
    """Documents: a folder, a file, a dataset's name or a hub data set, as process_data takes them."""
    output_dir: Path
    """Everything goes here: data/ (what the stages write) and model/ (the trained model). The same command again goes
    on where it stopped."""
    adpo: bool = False
    """Train on whole orders (sample_advanced_dpo_batch, train_adpo_lora) instead of judged pairs."""
    n_sample: int | None = None
    """Documents to use, drawn at random; all if not given."""
    text_column: str = "text"
    """Field of tables and hub data sets that holds the text."""
    kinds: tuple[QueryKind, ...] = ("questions",)
    """What queries to write and keep."""
    per_document: int = 1
    """Queries of each kind for a document."""
    writer: str | None = None
    """The language model that writes queries and judges: preset, hub name or folder; by default the device's, or the
    one served."""
    serving: EngineConfig = field(default_factory=EngineConfig)
    encoder: str | None = None
    """What finds candidates; all-MiniLM-L6-v2 if not given."""
    k_key: int = 50
    """Candidates for each query."""
    n_retrieved: int = 3
    """Of these, documents to compare with a query's own."""
    n_random: int = 1
    """Documents at random to compare with it."""
    n_sampled_keys: int = 4
    """With --adpo: documents on a ladder beside the query's own."""
    judge: JudgeName = "auto"
    """Who picks the better of two; see judge_dataset."""
    test_share: float = 0.1
    """Share of the documents whose queries are held out."""
    max_train: int | None = None
    """Lists (a query and its documents) to train on at most; 0 for all. By default 360 on a CPU, all elsewhere."""
    lora: LoraSettings = field(default_factory=LoraSettings)
    fitting: FittingConfig = field(default_factory=FittingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    dtype: DtypeName = "auto"
    """Numeric format of the model that is trained."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    overwrite: bool = False
    """Train anew where model/ holds another run."""

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ConfigError("kinds is empty: titles, questions or keywords")
