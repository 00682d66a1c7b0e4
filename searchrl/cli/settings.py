"""The flags of ``eval.py``, ``benchmark.py`` and ``generate_queries.py``; ``config.py`` has those of ``train.py``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from searchrl.config import DtypeName, EncoderDtypeName, EngineConfig, SplitName, at_least
from searchrl.errors import ConfigError

QueryJudgeMethod = Literal["auto", "yes_no", "graded", "likelihood", "none"]


@dataclass(frozen=True)
class EvalConfig:
    """Compare a trained agent with fixed ways to search."""

    checkpoint: str = "auto"
    """A policy that train.py wrote, or hf://USER/REPO on the Hugging Face hub; auto: the newest of yours,
    checkpoints/policy_final.pt, else checkpoints/pydocs.pt, which comes with SearchRL."""
    dataset: str | None = None
    """What to search; the dataset the policy was trained on if not given. Another one measures transfer."""
    split: SplitName = "test"
    """Queries to evaluate on."""
    num_queries: int = 200
    """Queries at most, the first of the split; 0 for all."""
    device: str = "auto"
    """auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    data_dir: Path | None = None
    """Where collections lie and downloads go; $SEARCHRL_DATA if not given."""
    mirror: str | None = None
    """Base address to download BEIR zips from instead of the public host."""
    lm: str | None = None
    """Another language model than the policy was trained with."""
    serving: EngineConfig = field(default_factory=EngineConfig)
    output_dir: Path | None = None
    """Folder for TREC runs and per-query results; runs/eval-<dataset>-<split>-<number> if not given."""
    overwrite: bool = False
    """Replace results in --output-dir."""
    cache: bool = True
    """Keep the index, search graphs and language model answers for the next command."""
    seed: int = 42
    """Seeds the random strategy and the bootstrap."""

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated."""
        at_least("num_queries", self.num_queries, 0)
        at_least("seed", self.seed, 0)


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure what this machine does in a second against plain one-at-a-time code, and estimate what 10,000 episodes
    take.
    """

    dataset: str = "pydocs"
    """pydocs (embedded), a BEIR folder, or nfcorpus, scifact, fiqa, arguana, scidocs (downloaded)."""
    device: str = "auto"
    """auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    lm: str = "auto"
    """smollm2-135m (comes with the installation), qwen2.5-1.5b, qwen2.5-3b, a hub name or a folder; auto by device."""
    dtype: DtypeName = "auto"
    """Numeric format of the language model; auto: as train.py chooses it."""
    encoder_dtype: EncoderDtypeName = "auto"
    """Numeric format of the encoder."""
    num_queries: int = 1500
    """Queries of train and dev whose search graphs are played to count the work; more are extrapolated."""
    million: bool = False
    """Also search 1,000,000 synthetic vectors (1.5 GB of memory, half a minute)."""
    quick: bool = False
    """Measure less of everything, once each: a first look, rougher."""
    data_dir: Path | None = None
    """Where collections lie and downloads go; $SEARCHRL_DATA if not given."""
    mirror: str | None = None
    """Base address to download BEIR zips from instead of the public host."""
    json: Path | None = None
    """Write all figures with their units, the ratios and the machine to this file, too."""
    plot: Path | None = None
    """Draw growth and the time's breakdown into this PNG file (an extra: uv pip install 'searchrl[plot]')."""
    cache: bool = True
    """Use the stored index, or store it; whatever is timed with the language model is computed anew in any case."""
    seed: int = 42
    """Seeds the samples."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        at_least("num_queries", self.num_queries, 1)
        at_least("seed", self.seed, 0)


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
    device: str = "auto"
    """auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    lm: str = "auto"
    """smollm2-135m (comes with the installation), qwen2.5-1.5b, qwen2.5-3b, a hub name or a folder; auto by device."""
    judge: QueryJudgeMethod = "auto"
    """How the language model compares a query's documents with others; auto: likelihood below about 1B parameters, else
    graded; none: it does not."""
    prompts: Path | None = None
    """TOML file that overrides prompts of searchrl/prompts.toml; read here: generate and judge."""
    data_dir: Path | None = None
    """Where collections lie and downloads go; $SEARCHRL_DATA if not given."""
    mirror: str | None = None
    """Base address to download BEIR zips from instead of the public host."""
    cache: bool = True
    """Keep the index and the language model's answers, so that a killed command goes on where it stopped."""
    seed: int = 42
    """Seeds the choice of documents, and which of the exported queries become dev."""
    serving: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        """Refuse what cannot be generated."""
        numbers = ("num-single", "num-multi", "num-adversarial")
        for name in numbers:
            at_least(name.replace("-", "_"), getattr(self, name.replace("-", "_")), 0)
        if not (self.num_single or self.num_multi or self.num_adversarial):
            raise ConfigError(f"{', '.join(f'--{name} 0' for name in numbers)}: nothing to make; raise one of them")
        at_least("queries_per_doc", self.queries_per_doc, 1)
        at_least("show", self.show, 0)
        at_least("seed", self.seed, 0)
