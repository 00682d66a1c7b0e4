"""``python -m searchrl.tagtree.generate_tags``: tags for each document of a collection."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from searchrl.command import parse, run_command
from searchrl.config import DtypeName, EngineConfig
from searchrl.errors import ConfigError
from searchrl.tagtree.settings import TagSettings

if TYPE_CHECKING:
    from searchrl.data.dataset import Corpus
    from searchrl.models.loader import ModelLoader, Use
    from searchrl.tagtree.inventory import Inventory
    from searchrl.tagtree.phrases import Phrases

TaggerName = Literal["keyphrases", "lm", "lm-write", "lm-choose"]


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
    model_name: str | None = None
    """A causal language model: preset, hub name or folder; by default the device's (on a cpu smollm2-135m, which is
    installed with SearchRL), or the one served."""
    prompts: Path | None = None
    """TOML file that overrides prompts of searchrl/prompts.toml."""
    device: str = "auto"
    """auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    dtype: DtypeName = "auto"
    """Numeric format of the language model."""
    serving: EngineConfig = field(default_factory=EngineConfig)
    data_dir: Path | None = None
    """Where collections lie and downloads go; $SEARCHRL_DATA if not given."""
    mirror: str | None = None
    """Base address to download BEIR zips from instead of the public host."""
    cache: bool = True
    """Keep the language model's answers, so that a killed command goes on where it stopped."""

    def __post_init__(self) -> None:
        """Refuse what gives no tags."""
        if self.max_documents < 0:
            raise ConfigError(f"--max-documents {self.max_documents}: must be at least 0")
        if self.max_documents and self.tagger == "keyphrases":
            raise ConfigError("--max-documents is for language models; keyphrases take seconds for all documents")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.tagtree.generate_tags``."""
    run_command(_generate, arguments)


def _generate(arguments: Sequence[str]) -> None:
    config = parse(GenerateTagsConfig, arguments, "python -m searchrl.tagtree.generate_tags")
    from searchrl.evaluation.stages import check_outputs, load_collection, say
    from searchrl.models.loader import ModelLoader
    from searchrl.tagtree.inventory import write_inventory

    check_outputs(("--output", config.output))
    dataset = load_collection(config.dataset, config.data_dir, config.mirror)
    say(f"dataset: {dataset.name}, {len(dataset.corpus)} documents")
    engine, kept = config.serving, config.cache
    with closing(
        ModelLoader(engine, device=config.device, dtype=config.dtype, cache=kept, show_progress=True)
    ) as loader:
        inventory = make_inventory(config, dataset.corpus, loader)
    write_inventory(config.output, inventory)
    say(_described(inventory, config.output))


def make_inventory(config: GenerateTagsConfig, corpus: Corpus, loader: ModelLoader) -> Inventory:
    """The tags of a corpus. Raises DataError where there are none, ModelError where it is the model that gave none."""
    from searchrl.errors import DataError, ModelError
    from searchrl.tagtree.choosing import best_phrases
    from searchrl.tagtree.inventory import Inventory, InventoryHeader

    tagger, least = _tagger(config, loader), config.choice.least(len(corpus))
    phrases, model, version = _phrases(config, tagger, corpus, loader)
    try:
        tags = best_phrases(phrases, config.choice.tags_per_document, least)
    except DataError as error:
        if tagger == "keyphrases":
            raise
        raise ModelError(
            f"of the tags that the model gave, none is shared by {least} documents: lower --min-documents, or use a "
            "larger model or --tagger lm-choose"
        ) from error
    settings = {**asdict(config.choice), "max_documents": config.max_documents}
    header = InventoryHeader(config.dataset, corpus.fingerprint, tagger, model, version, config.seed, settings)
    return Inventory(header, dict(zip(corpus.ids, tags, strict=True)))


def _phrases(
    config: GenerateTagsConfig, tagger: TaggerName, corpus: Corpus, loader: ModelLoader
) -> tuple[Phrases, str | None, str | None]:
    """What documents may be tagged with; model and prompt version, where a model had a say."""
    from searchrl.models.prompts import load_prompts
    from searchrl.tagtree import lm_tags
    from searchrl.tagtree.phrases import document_phrases

    texts = [corpus.full_text(i) for i in range(len(corpus))]
    choice = config.choice
    if tagger == "keyphrases":
        return document_phrases(texts, choice.least(len(texts)), choice.max_share), None, None
    prompts, rows, name = load_prompts(config.prompts), _asked(config, len(texts)), config.model_name
    if tagger == "lm-write":
        use: Use = "chat"
        lm = loader.language_model(name, use, context_tokens=lm_tags.CONTEXT_TOKENS)
        phrases = lm_tags.written_tags(lm, prompts, texts, rows, choice.tags_per_document, choice.max_share)
        digest = prompts.digest("tags")
    else:
        offered = document_phrases(texts, choice.least(len(texts)), choice.max_share)
        use = "likelihoods"
        lm = loader.language_model(name, use, context_tokens=lm_tags.CONTEXT_TOKENS)
        phrases = lm_tags.chosen_tags(lm, prompts, texts, rows, choice.tags_per_document, offered)
        digest = prompts.digest("tag_context", "tag_continuation")
    engine = loader.backend(name, use, context_tokens=lm_tags.CONTEXT_TOKENS)
    return phrases, f"{engine.name} {lm.fingerprint}", f"{prompts.version} {digest}"


def _tagger(config: GenerateTagsConfig, loader: ModelLoader) -> TaggerName:
    """Who tags, where the model's size decides it."""
    if config.tagger != "lm":
        return config.tagger
    if loader.engine == "http":
        return "lm-write"
    from searchrl.models.folders import SMALL_MODEL, default_language_model, language_model_folder
    from searchrl.models.loading import causal_lm_facts

    name = config.model_name or default_language_model("cuda" if loader.engine == "vllm" else loader.device.device)
    size = causal_lm_facts(name, language_model_folder(name)).parameters
    return "lm-choose" if size < SMALL_MODEL else "lm-write"


def _asked(config: GenerateTagsConfig, documents: int) -> list[int]:
    from searchrl.device import rng

    order = rng(config.seed, "tagtree", "documents").permutation(documents)
    return sorted(int(i) for i in order[: config.max_documents or None])


def _described(inventory: Inventory, path: Path) -> str:
    tags = inventory.tags()
    given = sum(map(len, tags.values()))
    tagged = sum(map(bool, inventory.documents.values()))
    common = sorted(tags, key=lambda tag: (-len(tags[tag]), tag))[:8]
    return (
        f"{len(tags)} tags of {tagged} documents, {given / tagged:.1f} a document, {given / len(tags):.1f} documents a "
        f"tag; commonest: {', '.join(common)}\ntags: {path}"
    )


if __name__ == "__main__":
    main()
