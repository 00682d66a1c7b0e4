"""Every setting of training, once: these frozen dataclasses are the flags, and what ``config.json`` records.

Nothing heavy is imported here, so that ``--help`` is instant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from searchrl.checks import above, at_least, between, check_types
from searchrl.errors import ConfigError, nearest

Settings = TypeVar("Settings")

RetrieverName = Literal["dense", "hybrid"]
ReformulatorName = Literal["auto", "feedback", "lm", "lm+feedback"]
RewardName = Literal["lm", "head", "qrels"]
JudgeMethod = Literal["auto", "yes_no", "graded", "likelihood", "pmi"]
FusionName = Literal["minmax", "rrf", "last"]
IdealName = Literal["pooled", "list"]
BaselineName = Literal["leave_one_out", "value", "none"]
EstimatorName = Literal["reinforce", "exact"]
ObservedName = Literal["features", "all"]
PolicyName = Literal["gru", "mlp"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16", "int8"]
EncoderDtypeName = Literal["auto", "float32", "bfloat16", "float16", "int8"]
ScorerName = Literal["auto", "yes_no", "graded", "likelihood", "pmi", "head", "cross_encoder", "qwen3_reranker"]
SplitName = Literal["train", "dev", "test"]
OwnDocumentName = Literal["text", "id", "none"]
TrackerName = Literal["tensorboard", "trackio", "wandb", "mlflow", "none"]
EngineName = Literal["auto", "transformers", "http", "vllm"]
IndexName = Literal["memory", "faiss", "milvus"]


def dataset_names(dataset: str) -> tuple[str, ...]:
    """The datasets that a setting names, joined by commas."""
    if "," not in dataset or Path(dataset).is_dir():
        return (dataset,)
    return tuple(name.strip() for name in dataset.split(","))


@dataclass(frozen=True)
class DataConfig:
    """Which documents and queries."""

    dataset: str = "pydocs"
    """pydocs (embedded), a BEIR folder, also of parquet files, or nfcorpus, scifact, fiqa, arguana, scidocs
    (downloaded); hf:OWNER/NAME, irds:ID and mteb:TASK read the hub, ir_datasets and MTEB. To train on several, join
    them by commas: each counts the same."""
    data_dir: Path | None = None
    """Where collections lie and downloads go; $SEARCHRL_DATA if not given."""
    mirror: str | None = None
    """Base address to download BEIR zips from instead of the public host."""
    query_bank: Path | None = None
    """Train on the generated queries of this file (what generate-queries writes, or a JSON list of query, documents and
    type) instead of the dataset's train split."""
    mix_query_bank: bool = False
    """Train on the queries of --query-bank and on the dataset's train split together."""
    split_seed: int | None = None
    """Seeds which train queries become dev where a dataset has no dev split; --seed if not given."""
    train_from_dev: bool = False
    """Train on half of the dev queries where a dataset has no train split."""
    max_train: int = 0
    """Train on the first so many queries of each dataset; 0: on all. What they find has to be judged."""
    max_dev: int = 0
    """Watch training on the first so many dev queries of each dataset; 0: on all."""
    own_document: OwnDocumentName = "text"
    """Which document is a query itself, and so never retrieved for it, unless it is judged relevant: text, one with the
    query's text; id, one with its id; none."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_types(self)
        names = self.datasets
        for name in ("max_train", "max_dev"):
            at_least(name, getattr(self, name), 0)
        at_least("split_seed", self.split_seed or 0, 0)
        if len(names) > 1 and not all(names):
            raise ConfigError(f"`dataset` {self.dataset}: an empty name between commas")
        if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
            raise ConfigError(f"`dataset` {self.dataset}: {repeated[0]} is named twice")
        if self.mix_query_bank and not self.query_bank:
            raise ConfigError("`mix_query_bank` needs `query_bank`, the queries to mix with the train split's")
        if len(names) > 1 and self.query_bank:
            raise ConfigError(
                f"`query_bank` {self.query_bank} with `dataset` {self.dataset}: a query bank belongs to one dataset"
            )

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets one by one."""
        return dataset_names(self.dataset)

    def each(self) -> list[DataConfig]:
        """The same settings for each dataset alone."""
        return [replace(self, dataset=name) for name in self.datasets]

    @property
    def label(self) -> str:
        """What a run on them is called: their names without folders."""
        return "+".join(Path(name.rpartition(":")[2]).resolve().name for name in self.datasets)


@dataclass(frozen=True)
class EngineConfig:
    """What runs the language model."""

    engine: EngineName = "auto"
    """transformers in this process, http (a server, --base-url), vllm in this process (an extra; GPUs); auto:
    transformers, or, for a policy, what it was trained with."""
    base_url: str | None = None
    """With --engine http: an OpenAI-compatible server, such as http://127.0.0.1:8000."""
    engine_model: str | None = None
    """The model's name on that server; by default the only one it serves."""
    api_key_env: str | None = None
    """Environment variable that holds the server's key."""
    concurrency: int = 8
    """Requests to the server at a time."""
    request_timeout: float = 120.0
    """Seconds to wait for one answer of the server."""
    golden: str | None = None
    """A model as --lm names it that transformers runs on a few pairs first; the engine must answer them alike."""
    tensor_parallel_size: int = 1
    """With --engine vllm: GPUs that share every layer."""
    pipeline_parallel_size: int = 1
    """With --engine vllm: groups of GPUs that share the layers out."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        check_types(self)
        for name in ("concurrency", "tensor_parallel_size", "pipeline_parallel_size"):
            at_least(name, getattr(self, name), 1, 10_000)
        above("request_timeout", self.request_timeout, 0.0, 1e6)
        if self.base_url and "@" in self.base_url.partition("://")[2].partition("/")[0]:
            raise ConfigError(
                "`base_url` holds a name or password, which would be written down with the settings: name the variable "
                "that holds the server's key with `api_key_env`"
            )
        if self.engine == "http" and not self.base_url:
            raise ConfigError("`engine` http needs `base_url`: the server's address, such as http://127.0.0.1:8000")
        for name in ("base_url", "engine_model", "api_key_env"):
            if getattr(self, name) is not None and self.engine != "http":
                raise ConfigError(f"`{name}` needs `engine` http, not {self.engine}")
        for name in ("tensor_parallel_size", "pipeline_parallel_size"):
            if getattr(self, name) > 1 and self.engine != "vllm":
                raise ConfigError(f"`{name}` above 1 needs `engine` vllm, not {self.engine}")
        if self.golden is not None and self.engine not in ("http", "vllm"):
            raise ConfigError("`golden` compares another engine with transformers: needs `engine` http or vllm")


@dataclass(frozen=True)
class IndexConfig:
    """Where documents are searched."""

    index: IndexName = "memory"
    """memory (exact, in this process), faiss (approximate where embeddings alone decide; an extra), or milvus (an
    engine elsewhere, --index-uri; an extra)."""
    index_uri: str | None = None
    """With --index milvus: a server's address, such as http://127.0.0.1:19530, or a name that ends with .db (Milvus
    Lite on this machine, one process at a time)."""
    index_token_env: str | None = None
    """Environment variable that holds the server's token, or user:password."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        check_types(self)
        if self.index == "milvus" and not self.index_uri:
            raise ConfigError(
                "`index` milvus needs `index_uri`: a server's address, such as http://127.0.0.1:19530, or a name that "
                "ends with .db"
            )
        for name in ("index_uri", "index_token_env"):
            if getattr(self, name) is not None and self.index != "milvus":
                raise ConfigError(f"`{name}` needs `index` milvus, not {self.index}")
        if self.index_uri and "@" in self.index_uri.partition("://")[2].partition("/")[0]:
            raise ConfigError(
                "`index_uri` holds a name or password, which would be written down with the settings: name the "
                "variable that holds them with `index_token_env`"
            )


@dataclass(frozen=True)
class RayConfig:
    """Whether models compute in the processes of a Ray cluster. It changes no result."""

    ray: str | None = None
    """local (processes of this machine), auto, or a cluster's address, such as ray://head:10001; needs an extra."""
    ray_workers: int = 2
    """Copies of each model, each in a process of its own; of a sweep, as many runs at a time as there is room for."""
    ray_cpus: float = 1.0
    """CPUs that each takes, and threads that it computes with."""
    ray_gpus: float = 0.0
    """GPUs that each takes: 0.5 has two share one."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        check_types(self)
        at_least("ray_workers", self.ray_workers, 1, 10_000)
        above("ray_cpus", self.ray_cpus, 0.0, 1e4)
        at_least("ray_gpus", self.ray_gpus, 0.0, 1e3)
        for name in ("ray_workers", "ray_cpus", "ray_gpus"):
            if self.ray is None and getattr(self, name) != RayConfig.__dataclass_fields__[name].default:
                raise ConfigError(f"`{name}` needs `ray`: local, auto, or a cluster's address")


@dataclass(frozen=True)
class ComputeConfig:
    """Where models compute, and whether their work is kept."""

    device: str = "auto"
    """auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    cache: bool = True
    """Keep answers, vectors and scores, so that a killed command goes on where it stopped."""


@dataclass(frozen=True)
class CollectionConfig:
    """Where collections are found."""

    data_dir: Path | None = None
    """Where collections lie and downloads go; $SEARCHRL_DATA if not given."""
    mirror: str | None = None
    """Base address to download BEIR zips from instead of the public host."""
    own_document: OwnDocumentName = "text"
    """Which document is a query itself, and so never retrieved for it, unless it is judged relevant: text, one with the
    query's text; id, one with its id; none."""


@dataclass(frozen=True)
class LanguageModelConfig:
    """Which language model writes or judges, and what runs it."""

    model_name: str | None = None
    """A causal language model: preset, hub name or folder; by default the device's (on a cpu smollm2-135m, which is
    installed with SearchRL), or the one served."""
    dtype: DtypeName = "auto"
    """Numeric format of the model."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    serving: EngineConfig = field(default_factory=EngineConfig)


@dataclass(frozen=True)
class ModelConfig:
    """Which models, and on what."""

    device: str = "auto"
    """auto (mps, then cuda, then cpu), mps, cuda, cuda:N or N, or cpu."""
    reward_device: Annotated[str | None, tyro.conf.arg(aliases=("--reward-gpu",))] = None
    """Where the reward model computes; --device if not given."""
    reformulator_device: Annotated[str | None, tyro.conf.arg(aliases=("--reformulator-gpu",))] = None
    """Where the language model that rewrites queries computes; --device if not given."""
    encoder: str = "all-MiniLM-L6-v2"
    """Any sentence-transformers model or folder; the default comes with the installation."""
    lm: str = "auto"
    """smollm2-135m (comes with the installation), qwen2.5-1.5b, qwen2.5-3b, a hub name or a folder; auto by device."""
    dtype: DtypeName = "auto"
    """Numeric format of the language model or reward head; auto: $SEARCHRL_DTYPE if set, else the device's, int8 where
    that was measured to do."""
    encoder_dtype: EncoderDtypeName = "auto"
    """Numeric format of the encoder; auto: $SEARCHRL_DTYPE if set, else float32; int8 is the fastest on x86 CPUs
    without bfloat16."""
    judge: JudgeMethod = "auto"
    """How the language model judges a document; auto: as it was fitted, else likelihood below about 1B parameters, and
    graded above."""
    reward_model: str | None = None
    """Sequence-classification reward model for --reward head: hub name or folder."""
    prompts: Path | None = None
    """TOML file that overrides prompts of searchrl/prompts.toml."""
    cache: bool = True
    """Keep the index, search graphs and language model answers for the next command."""
    serving: EngineConfig = field(default_factory=EngineConfig)
    indexing: IndexConfig = field(default_factory=IndexConfig)
    cluster: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        """Refuse what would be ignored."""
        check_types(self)
        engine = self.serving.engine
        for name in ("reward_device", "reformulator_device"):
            if engine == "http" and getattr(self, name) and not (name == "reward_device" and self.reward_model):
                raise ConfigError(f"`{name}` {getattr(self, name)} with `engine` http, whose server has its own device")
        if engine == "http" and self.lm != "auto":
            raise ConfigError(
                f"`lm` {self.lm} with `engine` http, whose server has the model: name it as the server does with "
                "`engine_model`; to compare it with one that runs here, use `golden`"
            )
        if engine == "http" and self.dtype != "auto" and not self.reward_model:
            raise ConfigError(f"`dtype` {self.dtype} with `engine` http, whose server has chosen the numeric format")


@dataclass(frozen=True)
class GameConfig:
    """What an episode is and what it pays."""

    retriever: RetrieverName = "dense"
    """What a plain search uses: embeddings alone, or embeddings and BM25."""
    ann_above: int = 0
    """Search larger corpora than this approximately where embeddings alone decide (needs FAISS); 0: never."""
    reformulator: ReformulatorName = "auto"
    """Who rewrites queries: relevance feedback, the language model, or both; auto: both where the language model has
    about 1B parameters or is served, feedback for smaller ones."""
    reward: RewardName = "lm"
    """Who says what a ranking is worth: a language model, a reward head, or human judgments."""
    max_steps: int = 5
    """Steps after which an episode is truncated."""
    auto_search: bool = False
    """A reformulation searches at once, in the same step."""
    mask: bool = True
    """Allow only actions that do something; without it the known collapse can be reproduced."""
    step_penalty: float = 0.001
    """Taken off the return for every step."""
    reward_baseline: Literal["none", "single_pass"] = "none"
    """single_pass: pay the difference from what one plain search earns."""
    ideal: IdealName = "pooled"
    """Ideal of the language model's nDCG: the query's whole pool, or the list itself (to reproduce old tables)."""
    fusion: FusionName = "minmax"
    """How an episode's rankings become one; last: only the newest counts."""
    anchor: float = 0.4
    """Weight of the first ranking in the fusion."""
    judge_depth: int = 10
    """Documents at the top of each search that the reward model judges; 0: no reward model."""
    judge_penalty: float = 0.0001
    """Taken off the return for every document that was judged."""
    trust: tuple[float, ...] = (0.0, 0.3, 0.5, 0.8)
    """Shares of the reward model in the final ranking, among which the agent chooses for each query when it stops; one:
    the same for all."""
    depth: int = 100
    """Documents in a ranking."""

    def __post_init__(self) -> None:
        """Refuse what cannot be played."""
        check_types(self)
        at_least("max_steps", self.max_steps, 2)
        at_least("depth", self.depth, 10, 1_000_000)
        at_least("ann_above", self.ann_above, 0)
        if self.ann_above and self.retriever == "hybrid":
            raise ConfigError(
                f"`ann_above` {self.ann_above} with `retriever` hybrid, which needs the score of every document; "
                "use `retriever` dense, or `ann_above` 0"
            )
        at_least("judge_depth", self.judge_depth, 0)
        at_least("judge_penalty", self.judge_penalty, 0.0, 1e6)
        between("anchor", self.anchor, 0.0, 1.0)
        for share in self.trust:
            between("trust", share, 0.0, 1.0)
        if not self.trust or len(set(self.trust)) < len(self.trust):
            raise ConfigError(f"`trust` {' '.join(map(str, self.trust))}: give one share or more, each once")
        if self.reward != "qrels" and not self.judge_depth:
            raise ConfigError(f"`reward` {self.reward} with `judge_depth` 0: nothing would be judged; use 10, or more")
        at_least("step_penalty", self.step_penalty, 0.0, 1e6)
        if self.auto_search and self.max_steps > 7:
            raise ConfigError(f"`max_steps` {self.max_steps} with `auto_search`: too many states; use 7 or fewer")
        if self.max_steps > 13:
            raise ConfigError(
                f"`max_steps` {self.max_steps}: the tree of states doubles every two steps; use at most 13"
            )


@dataclass(frozen=True)
class LearningConfig:
    """How the policy learns."""

    episodes: int = 10_000
    """Episodes to play."""
    lr: float = 3e-4
    """Learning rate (Adam), falling linearly to a tenth."""
    batch_size: int = 64
    """Episodes per update."""
    seed: int = 42
    """Seeds everything drawn at random."""
    policy: PolicyName = "gru"
    """gru remembers the episode; mlp sees only the present."""
    hidden: int = 256
    """Width of the policy."""
    observe: ObservedName = "features"
    """What the policy sees: named features alone, or embeddings too, by which it learns small collections by heart."""
    hide: str = ""
    """Groups of features that the policy does not see, joined by commas: level, overlap, agreement, lexical, words,
    query, reward. Shows what a group is worth."""
    estimator: EstimatorName = "exact"
    """REINFORCE from sampled episodes, or with its expectation summed exactly over every path of a query's tree."""
    baseline: BaselineName = "leave_one_out"
    """What a sampled return is compared with: the other rollouts of its query, a learned value, or nothing."""
    rollouts: int = 4
    """Episodes of the same query in a batch, for leave_one_out."""
    entropy: Annotated[float, tyro.conf.arg(aliases=("--entropy-coef",))] = 0.6
    """Entropy bonus at the start, falling linearly to a hundredth of it; in units of a query's spread of outcomes."""
    loss_aversion: float = 2.0
    """How many times a loss against the best fixed sequence of the train queries counts while learning; above 1, the
    agent leaves that sequence when it is sure."""
    curriculum: bool = False
    """After a warm-up, draw hard queries more often than they come."""
    hard_threshold: float = 0.6
    """A query is hard if the gain of one plain search lies below."""
    hard_ratio: float = 0.7
    """Share of hard queries under --curriculum."""
    warm_up: int = 2_000
    """Episodes before --curriculum begins."""
    weight_decay: float = 0.01
    """Decoupled weight decay (AdamW)."""
    eval_every: int = 640
    """Episodes between looks at the dev queries; the run can be resumed from each."""
    checkpoint_every: int = 2_560
    """Episodes between numbered checkpoints: 1000 gives policy_1000.pt, policy_2000.pt, ..., each of the first update
    that reaches its number."""

    def __post_init__(self) -> None:
        """Refuse what cannot be learned with."""
        check_types(self)
        for name in ("episodes", "batch_size", "hidden", "rollouts", "eval_every", "checkpoint_every"):
            at_least(name, getattr(self, name), 1)
        for name in ("batch_size", "hidden"):
            at_least(name, getattr(self, name), 1, 1 << 16)
        above("lr", self.lr, 0.0)
        at_least("entropy", self.entropy, 0.0)
        at_least("loss_aversion", self.loss_aversion, 0.0)
        between("hard_threshold", self.hard_threshold, 0.0, 1.0)
        between("hard_ratio", self.hard_ratio, 0.0, 1.0)
        at_least("warm_up", self.warm_up, 0)
        at_least("weight_decay", self.weight_decay, 0.0)
        at_least("seed", self.seed, 0)
        if self.estimator == "reinforce" and self.baseline == "leave_one_out":
            at_least("rollouts", self.rollouts, 2)
            if self.batch_size % self.rollouts:
                raise ConfigError(
                    f"`batch_size` {self.batch_size} is not a multiple of `rollouts` {self.rollouts}, "
                    "which `baseline` leave_one_out needs; change one, or use `baseline` value"
                )


@dataclass(frozen=True)
class OutputConfig:
    """Where results go."""

    run_name: str | None = None
    """Name of the run's folder under --runs-dir; numbered by itself if not given."""
    runs_dir: Annotated[Path, tyro.conf.arg(aliases=("--log-dir",))] = Path("runs")
    """One folder a run: configuration, metrics, TensorBoard curves, checkpoints."""
    checkpoint_dir: Path = Path("checkpoints")
    """Holds the newest run's checkpoints."""
    tracker: TrackerName = "tensorboard"
    """Who draws the curves: tensorboard, trackio, wandb (offline unless $WANDB_MODE says otherwise), mlflow, none."""
    overwrite: bool = False
    """Replace the run of the same --run-name."""
    resume: bool = False
    """Go on with the newest unfinished run of this configuration (or the one that --run-name names)."""

    def __post_init__(self) -> None:
        """Refuse what is of another type."""
        check_types(self)


@dataclass(frozen=True)
class TrainConfig:
    """Train a search agent."""

    data: DataConfig = field(default_factory=DataConfig)
    models: ModelConfig = field(default_factory=ModelConfig)
    game: GameConfig = field(default_factory=GameConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    config: Path | None = None
    """config.json of an earlier run: its settings become the defaults, flags given here still win."""
    sweep: str | None = None
    """Train one policy for each value of a setting that is a number, as in seed=1,2,3,4,5 or lr=.1,.01. All go into one
    run folder, and a table compares them on dev queries; shared checkpoints stay as they are."""

    def __post_init__(self) -> None:
        """Refuse what cannot be learned."""
        check_types(self)
        if self.learning.estimator == "exact" and not self.game.mask:
            raise ConfigError("`estimator` exact needs the action mask: turn `mask` on, or use `estimator` reinforce")


def pick_settings(values: Mapping[str, Any]) -> tuple[DataConfig, ModelConfig, GameConfig]:
    """Settings of a call from Python, by name, in their groups. Raises ConfigError on a name that no group has.

    People pay, and no language model takes part, unless ``reward`` or what is said of the model asks for one.
    """
    values = {"reward": "qrels", **values}
    if values["reward"] == "qrels":
        values = {"judge_depth": 0, "reformulator": "feedback", **values}
    chosen = sort_settings((DataConfig, ModelConfig, EngineConfig, IndexConfig, RayConfig, GameConfig), values)
    for group, kind in (("serving", EngineConfig), ("indexing", IndexConfig), ("cluster", RayConfig)):
        if chosen[kind]:
            chosen[ModelConfig].setdefault(group, kind(**chosen[kind]))
    return DataConfig(**chosen[DataConfig]), ModelConfig(**chosen[ModelConfig]), GameConfig(**chosen[GameConfig])


def sort_settings(kinds: Sequence[type[Any]], values: Mapping[str, Any]) -> dict[type[Any], dict[str, Any]]:
    """Settings by the group that has one of the name, the first of several. Raises ConfigError where none has."""
    chosen: dict[type[Any], dict[str, Any]] = {kind: {} for kind in kinds}
    owners: dict[str, type[Any]] = {name: kind for kind in reversed(kinds) for name in kind.__dataclass_fields__}
    for name, value in values.items():
        if name not in owners:
            raise ConfigError(f"unknown setting {name!r}; {nearest(name, owners)}")
        chosen[owners[name]][name] = value
    return chosen
