"""``python -m searchrl.tagtree.embed_tags``: embed a collection's tags and make the tree of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.command import parse, run_command
from searchrl.config import EngineConfig
from searchrl.errors import ConfigError
from searchrl.tagtree.settings import TreeSettings

if TYPE_CHECKING:
    from searchrl.data.dataset import Corpus, Dataset
    from searchrl.retrieval.dense import TextEncoder
    from searchrl.retrieval.ranking import FloatArray
    from searchrl.tagtree.inventory import Inventory
    from searchrl.tagtree.tree import TagTree


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
    device: str = "auto"
    """auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    serving: EngineConfig = field(default_factory=EngineConfig)
    data_dir: Path | None = None
    """Where collections lie and downloads go; $SEARCHRL_DATA if not given."""
    mirror: str | None = None
    """Base address to download BEIR zips from instead of the public host."""
    cache: bool = True
    """Keep vectors, finished parts of a job that was killed included, for the next command."""

    def __post_init__(self) -> None:
        """Refuse what embeds nothing."""
        if self.serving.engine == "vllm" or self.serving.golden:
            flag = "--engine vllm" if self.serving.engine == "vllm" else "--golden"
            raise ConfigError(f"{flag} is for language models; to embed, start a server and use --engine http")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.tagtree.embed_tags``."""
    run_command(_embed, arguments)


def _embed(arguments: Sequence[str]) -> None:
    config = parse(EmbedTagsConfig, arguments, "python -m searchrl.tagtree.embed_tags")
    from searchrl.evaluation.stages import check_outputs, load_collection, say
    from searchrl.models.loader import ModelLoader
    from searchrl.tagtree.inventory import read_inventory, read_inventory_for
    from searchrl.tagtree.tree import save_tree

    files = [config.output_dir / name for name in ("tree.txt", "tree.html")]
    check_outputs(*(("--output-dir", file) for file in files), inputs=[config.tags])
    name = config.dataset or read_inventory(config.tags).header.dataset
    dataset = load_collection(name, config.data_dir, config.mirror)
    inventory = read_inventory_for(config.tags, dataset.corpus)
    say(f"dataset: {dataset.name}, {len(dataset.corpus)} documents")
    with closing(ModelLoader(config.serving, device=config.device, cache=config.cache)) as loader:
        encoder = loader.encoder(config.encoder)
        tree = make_tree(config, inventory, dataset.corpus, encoder, loader.cache)
        facts = {
            "dataset": name,
            "corpus_fingerprint": dataset.corpus.fingerprint,
            "encoder": config.encoder,
            "encoder_fingerprint": encoder.fingerprint,
            "seed": config.seed,
            "tags": asdict(inventory.header),
        }
    save_tree(config.output_dir / "tree", tree, facts)
    _show(config.output_dir, tree, dataset, inventory)
    say(
        f"tree: {len(tree.tags)} tags in {len(tree) - len(tree.tags)} clusters on {int(tree.levels.max())} levels\n"
        f"{config.output_dir / 'tree'}, {files[0]}, {files[1]}"
    )


def make_tree(
    config: EmbedTagsConfig, inventory: Inventory, corpus: Corpus, encoder: TextEncoder, cache: Path | None
) -> TagTree:
    """The tree of an inventory; vectors are read from, and kept in, the index cache."""
    from searchrl.evaluation.embed import obtain_index
    from searchrl.tagtree.planting import as_corpus, plant

    def embed(tags: Sequence[str]) -> FloatArray:
        return obtain_index(as_corpus(tags), encoder, cache).vectors

    documents = obtain_index(corpus, encoder, cache).vectors
    return plant([inventory.documents[i] for i in corpus.ids], documents, embed, config.tree, config.seed)


def _show(folder: Path, tree: TagTree, dataset: Dataset, inventory: Inventory) -> None:
    from searchrl.files import write_text
    from searchrl.tagtree.show import tree_page, tree_text

    corpus = dataset.corpus
    tagged = sum(map(bool, inventory.documents.values()))
    facts = {
        "collection": f"{dataset.name}, {len(corpus)} documents",
        "tags": f"{len(tree.tags)}, by {inventory.header.model or inventory.header.tagger}",
        "documents with tags of their own": tagged,
        "clusters": len(tree) - len(tree.tags),
    }
    texts = [corpus.full_text(i) for i in range(len(corpus))]
    write_text(folder / "tree.txt", tree_text(tree).encode("utf-8", "replace").decode("utf-8"))
    write_text(folder / "tree.html", tree_page(tree, f"The tags of {dataset.name}", facts, texts))


if __name__ == "__main__":
    main()
