"""The settings of the stages that make preferences; nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from searchrl.config import ComputeConfig, EngineConfig, LanguageModelConfig, ScorerName, at_least
from searchrl.errors import ConfigError

KindName = Literal["titles", "questions", "keywords"]
JudgeName = Literal["auto", "pairwise", "likelihood", "graded", "yes_no", "head", "source"]

MOST_RUNGS = 5
"""Rungs of a ladder that a language model writes (``prompts.toml``)."""


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
        if self.n_sample is not None:
            at_least("n_sample", self.n_sample, 1)
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
    kinds: tuple[KindName, ...] = ("titles", "questions", "keywords")
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
        for name, least in (("k_key", 1), ("request_batch_size", 1), ("batch_tokens", 0)):
            at_least(name, getattr(self, name), least)
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
        if not 0 <= self.test_share < 1:
            raise ConfigError(f"test_share {self.test_share}: must be at least 0 and below 1")
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
        for name, least in (("n_key_generation", 1), ("depth", 1)):
            at_least(name, getattr(self, name), least)
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
