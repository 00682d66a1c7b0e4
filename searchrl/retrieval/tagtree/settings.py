"""How tags are chosen and become a tree, whose defaults are also those of Search; and what the stages are asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from searchrl.checks import at_least, between
from searchrl.config import (
    CollectionConfig,
    ComputeConfig,
    DtypeName,
    EngineConfig,
    LanguageModelConfig,
    ScorerName,
    SplitName,
)
from searchrl.errors import ConfigError

TaggerName = Literal["keyphrases", "lm", "lm-write", "lm-choose"]

MIN_DOCUMENTS = 8


@dataclass(frozen=True)
class TagSettings:
    """Which tags a collection gets."""

    tags_per_document: int = 8
    """Tags of a document, at most."""
    min_documents: int = 0
    """Drop tags of fewer documents; 0: 8, and less below 700 documents."""
    max_share: float = 0.1
    """Drop tags of more than this share of the documents."""

    def __post_init__(self) -> None:
        at_least("tags_per_document", self.tags_per_document, 1)
        at_least("min_documents", self.min_documents, 0)
        if not 0 < self.max_share <= 1:
            raise ConfigError(f"max_share {self.max_share}: must be above 0 and at most 1")

    def least(self, documents: int) -> int:
        """Documents that a tag must have in a collection of so many."""
        return self.min_documents or min(MIN_DOCUMENTS, 1 + documents // 100)


@dataclass(frozen=True)
class TreeSettings:
    """How tags become a tree."""

    text_share: float = 0.1
    """Share of the tag's own text in its vector; the rest is the mean of its documents' vectors."""
    nearest: int = 8
    """Tags that each document joins besides its own: those most like it. Without tags of its own it joins at least
    one."""
    branching: int = 8
    """Children of a node, at most."""
    leaf_size: int = 8
    """Tags that are not divided any further."""
    representatives: int = 4
    """Tags that stand for a node: near its middle, and with many documents."""

    def __post_init__(self) -> None:
        between("text_share", self.text_share, 0, 1)
        for name, least in (("nearest", 0), ("branching", 2), ("leaf_size", 1), ("representatives", 1)):
            at_least(name, getattr(self, name), least)


@dataclass(frozen=True)
class GenerateTagsConfig:
    """Give each document of a collection tags, and write the inventory of them."""

    dataset: str
    """A BEIR folder, or a name: pydocs (embedded), nfcorpus, scifact, fiqa, arguana, scidocs (downloaded)."""
    output: Path
    """JSON inventory: header, documents -> tags, tags -> document ids."""
    tagger: TaggerName = "keyphrases"
    """keyphrases: phrases of the documents by frequency and rarity; no model. lm-write: a language model writes tags.
    lm-choose: it chooses among the documents' own phrases by likelihood. lm: choose below about 1B parameters, else
    write."""
    choice: TagSettings = field(default_factory=TagSettings)
    max_documents: int = 0
    """Documents that a language model is asked about, a random sample; the others join tags of documents like them
    where tags are embedded. 0 for all."""
    seed: int = 42
    """Seeds which documents those are."""
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    prompts: Path | None = None
    """TOML file that overrides prompts of searchrl/prompts.toml."""
    collection: CollectionConfig = field(default_factory=CollectionConfig)

    def __post_init__(self) -> None:
        at_least("max_documents", self.max_documents, 0)
        if self.max_documents and self.tagger == "keyphrases":
            raise ConfigError("max_documents is for language models; keyphrases take seconds for all documents")


@dataclass(frozen=True)
class EmbedTagsConfig:
    """Embed a collection's tags, cluster them into a tree, and show it as text and as a page."""

    tags: Path
    """Inventory that generate_tags wrote."""
    output_dir: Path
    """Gets tree/ (which assign reads), tree.txt and tree.html."""
    dataset: str | None = None
    """The collection of these tags; by default the one that the inventory names."""
    tree: TreeSettings = field(default_factory=TreeSettings)
    seed: int = 42
    """Seeds k-means, which divides sets of tags that are too large for Ward's method."""
    encoder: str | None = None
    """Any sentence-transformers model or folder. By default all-MiniLM-L6-v2, which comes with the installation, or the
    model that is served."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    serving: EngineConfig = field(default_factory=EngineConfig)
    collection: CollectionConfig = field(default_factory=CollectionConfig)

    def __post_init__(self) -> None:
        if self.serving.engine == "vllm" or self.serving.golden:
            what = "engine vllm" if self.serving.engine == "vllm" else "golden"
            raise ConfigError(f"{what} is for language models; to embed, start a server and use engine http")


@dataclass(frozen=True)
class AssignConfig:
    """Walk queries down a tag tree, to paths and documents; where the queries are judged, measure what that loses."""

    tree: Path
    """The tree/ that embed_tags wrote, or the folder it is in."""
    output: Path | None = None
    """JSON records: query_id, key_ids, scores, positive_key_ids, as the rerank stage takes them; and paths, scored,
    compared."""
    dataset: str | None = None
    """The collection of the tree; by default the one that it names."""
    split: SplitName = "test"
    """Queries to assign."""
    query: tuple[str, ...] = ()
    """Texts to assign instead of a split's queries."""
    top_k: int = 100
    """Documents kept for each query."""
    beam_width: int = 16
    """Clusters that each query follows on a level."""
    candidates: int = 0
    """Documents scored for each query; 0: a tenth of the collection, at least twice --top-k."""
    paths: int = 3
    """Paths kept for each query, those to the nearest tags."""
    reward_model: str | None = None
    """Scores (query, the tags that stand for a cluster) on the way down: preset, hub name or folder."""
    scorer: ScorerName = "auto"
    """What that model is; auto: told from its files."""
    reward_weight: float = 0.5
    """Its share against the cosine, as z-scores; 1 is the reward model alone."""
    measure: bool = True
    """Where the queries have judgments, compare with exact search for every --beams and --shares."""
    beams: tuple[int, ...] = (4, 8, 16, 32, 64)
    """Beam widths of that comparison."""
    shares: tuple[float, ...] = (0.1, 0.2)
    """Shares of the documents scored, at most, in that comparison."""
    show: int = 2
    """Queries whose paths are printed."""
    dtype: DtypeName = "auto"
    """Numeric format of the reward model."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    serving: EngineConfig = field(default_factory=EngineConfig)
    collection: CollectionConfig = field(default_factory=CollectionConfig)

    def __post_init__(self) -> None:
        for name, least in (("top_k", 1), ("beam_width", 1), ("candidates", 0), ("paths", 0), ("show", 0)):
            at_least(name, getattr(self, name), least)
        if self.candidates and self.candidates < self.top_k:
            raise ConfigError(f"candidates {self.candidates}: must be at least top_k, {self.top_k}, or 0")
        between("reward_weight", self.reward_weight, 0, 1)
        if any(width < 1 for width in self.beams) or not all(0 < share <= 1 for share in self.shares):
            raise ConfigError("beams must be at least 1, shares above 0 and at most 1")
        if self.reward_model is None and self.serving.engine == "vllm":
            raise ConfigError("engine vllm is for language models: name one as reward_model")
