"""The settings of ``train_lora`` and ``train_adpo_lora``, and of the pipeline over all stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from searchrl.config import CollectionConfig, ComputeConfig, DtypeName, EngineConfig, at_least
from searchrl.errors import ConfigError
from searchrl.fitting.settings import JudgeName

LossName = Literal["pairwise", "listwise"]
ScorerFlag = Literal["auto", "likelihood", "pmi", "yes_no", "graded", "head"]


@dataclass(frozen=True)
class PreferenceDataConfig:
    """What to learn from: preference lists in files, or a collection's human judgments."""

    dataset_list_train: Path | None = None
    """Preferences to train on: dataset_list_train.json of judge_dataset or sample_advanced_dpo_batch, or the records of
    an ADPO stage."""
    dataset_list_test: Path | None = None
    """Preferences to test on; if not given, --test-share of the training queries is held out."""
    dataset: str | None = None
    """Instead of files: a BEIR folder or a dataset's name. Relevant documents come from its judgments, the others from
    a first-stage ranking."""
    train_split: Literal["train", "dev", "test"] = "train"
    """With --dataset: the queries to train on."""
    test_split: Literal["train", "dev", "test"] = "dev"
    """With --dataset: the queries to test on; the dev split is made of train queries where there is none."""
    positives: int = 2
    """With --dataset: relevant documents of a query at most, drawn at random."""
    negatives: int = 3
    """With --dataset: other documents of a query, drawn from the top of its ranking."""
    negatives_depth: int = 50
    """With --dataset: how far that top reaches."""
    random_negatives: int = 1
    """With --dataset: documents drawn from the whole collection besides."""
    encoder: str | None = None
    """With --dataset: what ranks; any sentence-transformers model or folder, all-MiniLM-L6-v2 if not given."""
    test_share: float = 0.1
    """Share of the queries of --dataset-list-train to hold out where --dataset-list-test is not given."""
    max_train: int | None = None
    """Lists to train on at most, drawn at random; 0 for all. By default 360 on a CPU, all elsewhere."""
    max_test: int = 100
    """Lists to test on at most, drawn at random; 0 for all."""
    collection: CollectionConfig = field(default_factory=CollectionConfig)

    def __post_init__(self) -> None:
        if self.dataset is not None and self.dataset_list_test is not None:
            raise ConfigError("dataset_list_test goes with dataset_list_train; with dataset use test_split")
        if self.dataset is not None and self.train_split == self.test_split:
            raise ConfigError(f"train_split and test_split are both {self.test_split}: test on other queries")
        for name in ("positives", "negatives", "negatives_depth"):
            at_least(name, getattr(self, name), 1)
        for name in ("random_negatives", "max_train", "max_test"):
            at_least(name, getattr(self, name) or 0, 0)
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
        at_least("r", self.r, 1)
        at_least("lora_alpha", self.lora_alpha, 1)
        at_least("last_layers", self.last_layers or 0, 0)
        if not 0 <= self.lora_dropout < 1:
            raise ConfigError(f"lora_dropout {self.lora_dropout}: must be at least 0 and below 1")
        if self.max_key_words is not None:
            at_least("max_key_words", self.max_key_words, 1)
        if self.new_head and self.scorer not in ("auto", "head"):
            raise ConfigError(f"new_head with scorer {self.scorer}: the new head is what is trained")


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
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, a third more time."""
    evaluation_steps: int = 100
    """Updates between two looks at the held-out lists."""
    save_steps: int = 25
    """Updates between two checkpoints; what a kill loses at most."""
    logging_steps: int = 10
    """Updates between two points of the curves."""
    seed: int = 42
    """Seeds adapter, order and samples."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "gradient_accumulation_steps", "evaluation_steps", "save_steps", "logging_steps"):
            at_least(name, getattr(self, name), 1)
        for name in ("epochs", "learning_rate", "max_grad_norm", "scale"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} {value}: must be above 0")
        if not 0 <= self.warmup_ratio < 1:
            raise ConfigError(f"warmup_ratio {self.warmup_ratio}: must be at least 0 and below 1")
        at_least("weight_decay", self.weight_decay, 0)
        at_least("seed", self.seed, 0)


@dataclass(frozen=True)
class TrackingConfig:
    """Who is told how it goes, besides TensorBoard."""

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
    kinds: tuple[str, ...] = ("questions",)
    """What queries to write and keep: titles, questions, keywords."""
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
        if not self.kinds or not set(self.kinds) <= {"titles", "questions", "keywords"}:
            raise ConfigError(f"kinds {' '.join(self.kinds)}: choose of titles, questions, keywords")
