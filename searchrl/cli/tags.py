"""``searchrl tags {generate,embed,assign}``: tags of a collection, a tree of them, and the way down it from queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchrl.cli import Stages, do_stage
from searchrl.cli.fit import say
from searchrl.command import run_command
from searchrl.errors import DataError
from searchrl.retrieval.tagtree.settings import AssignConfig, EmbedTagsConfig, GenerateTagsConfig

if TYPE_CHECKING:
    from searchrl.data.dataset import Corpus, Dataset, QuerySet
    from searchrl.models.loader import ModelLoader, Use
    from searchrl.retrieval.tagtree.build import Inventory
    from searchrl.retrieval.tagtree.retriever import Found, MakeGuide
    from searchrl.retrieval.tagtree.tagging import TaggingModel
    from searchrl.retrieval.tagtree.tree import TagTree

TAGGER_USES: Mapping[str, Use] = {"lm-write": "chat", "lm-choose": "likelihoods"}
"""What each way to tag needs of a language model."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl tags``."""
    run_command(_tags, arguments)


def run_stage(name: str, arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.tagtree.NAME``."""
    run_command(lambda flags: _tags([name, *flags]), arguments)


def _tags(arguments: Sequence[str]) -> None:
    arguments = [name.removesuffix("_tags") for name in arguments[:1]] + list(arguments[1:])  # of python -m
    do_stage("tags", STAGES, arguments)


def generate(config: GenerateTagsConfig) -> None:
    """``searchrl tags generate``."""
    from searchrl.evaluation.stages import check_outputs, load_collection
    from searchrl.models.loader import open_models
    from searchrl.retrieval.tagtree.build import Inventory, InventoryHeader, write_inventory
    from searchrl.retrieval.tagtree.tagging import CONTEXT_TOKENS, PROMPTS, tags_of

    check_outputs(("output", config.output))
    where = config.collection
    dataset = load_collection(config.dataset, where.data_dir, where.mirror, where.own_document)
    corpus, tagger, name, version = dataset.corpus, "keyphrases", None, None
    say(f"dataset: {dataset.name}, {len(corpus)} documents")
    with closing(open_models(config.lm, show_progress=True)) as loader:
        model = _tagging_model(config, len(corpus), loader)
        tags = tags_of(corpus, config.choice, model)
        if model is not None:
            engine = loader.backend(config.lm.model_name, TAGGER_USES[model.how], context_tokens=CONTEXT_TOKENS)
            tagger, name = model.how, f"{engine.name} {model.lm.fingerprint}"
            version = f"{model.prompts.version} {model.prompts.digest(*PROMPTS[model.how])}"
    settings = {**asdict(config.choice), "max_documents": config.max_documents}
    header = InventoryHeader(config.dataset, corpus.fingerprint, tagger, name, version, config.seed, settings)
    inventory = Inventory(header, dict(zip(corpus.ids, tags, strict=True)))
    write_inventory(config.output, inventory)
    say(_tags_described(inventory, config.output))


def _tagging_model(config: GenerateTagsConfig, documents: int, loader: ModelLoader) -> TaggingModel | None:
    """Who tags, where it is a language model; for ``lm``, its size decides how."""
    if config.tagger == "keyphrases":
        return None
    from searchrl.device import rng
    from searchrl.models.prompts import load_prompts
    from searchrl.retrieval.tagtree.tagging import CONTEXT_TOKENS, TaggingModel

    name, how = config.lm.model_name, config.tagger
    if how == "lm":
        how = "lm-choose" if loader.is_small(name) else "lm-write"
    prompts = load_prompts(config.prompts)
    order = rng(config.seed, "tagtree", "documents").permutation(documents)
    rows = sorted(int(i) for i in order[: config.max_documents or None])
    lm = loader.language_model(name, TAGGER_USES[how], context_tokens=CONTEXT_TOKENS)
    return TaggingModel(how, lm, prompts, rows)


def _tags_described(inventory: Inventory, path: Path) -> str:
    tags = inventory.tags()
    given = sum(map(len, tags.values()))
    tagged = sum(map(bool, inventory.documents.values()))
    common = sorted(tags, key=lambda tag: (-len(tags[tag]), tag))[:8]
    return (
        f"{len(tags)} tags of {tagged} documents, {given / tagged:.1f} a document, {given / len(tags):.1f} documents a "
        f"tag; commonest: {', '.join(common)}\ntags: {path}"
    )


def embed(config: EmbedTagsConfig) -> None:
    """``searchrl tags embed``."""
    from searchrl.evaluation.stages import check_outputs, load_collection
    from searchrl.models.loader import ModelLoader
    from searchrl.retrieval.dense import build_dense_index
    from searchrl.retrieval.tagtree.build import as_corpus, build_tag_tree, read_inventory, read_inventory_for
    from searchrl.retrieval.tagtree.tree import save_tree

    files = [config.output_dir / name for name in ("tree.txt", "tree.html")]
    check_outputs(*(("output_dir", file) for file in files), inputs=[config.tags])
    name = config.dataset or read_inventory(config.tags).header.dataset
    where = config.collection
    dataset = load_collection(name, where.data_dir, where.mirror, where.own_document)
    corpus, inventory = dataset.corpus, read_inventory_for(config.tags, dataset.corpus)
    say(f"dataset: {dataset.name}, {len(corpus)} documents")
    compute = config.compute
    with closing(ModelLoader(config.serving, device=compute.device, cache=compute.cache)) as loader:
        encoder = loader.encoder(config.encoder)

        def vectors(texts: Corpus) -> Any:
            return build_dense_index(texts, encoder, loader.cache, show_progress=True, resumable=True).vectors

        tree = build_tag_tree(
            [inventory.documents[i] for i in corpus.ids],
            vectors(corpus),
            lambda tags: vectors(as_corpus(tags)),
            config.tree,
            config.seed,
        )
        facts = {
            "dataset": name,
            "corpus_fingerprint": corpus.fingerprint,
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


def _show(folder: Path, tree: TagTree, dataset: Dataset, inventory: Inventory) -> None:
    from searchrl.files import write_text
    from searchrl.retrieval.tagtree.tree import tree_page, tree_text

    corpus = dataset.corpus
    facts = {
        "collection": f"{dataset.name}, {len(corpus)} documents",
        "tags": f"{len(tree.tags)}, by {inventory.header.model or inventory.header.tagger}",
        "documents with tags of their own": sum(map(bool, inventory.documents.values())),
        "clusters": len(tree) - len(tree.tags),
    }
    texts = corpus.full_texts()
    write_text(folder / "tree.txt", tree_text(tree).encode("utf-8", "replace").decode("utf-8"))
    write_text(folder / "tree.html", tree_page(tree, f"The tags of {dataset.name}", facts, texts))


def assign(config: AssignConfig) -> None:
    """``searchrl tags assign``."""
    from searchrl.data.own_document import own_document
    from searchrl.evaluation.measures import measure_tag_tree, measured_table
    from searchrl.evaluation.results import ranked_queries, write_records
    from searchrl.evaluation.stages import check_outputs, load_collection
    from searchrl.models.loader import ModelLoader
    from searchrl.retrieval.dense import build_dense_index
    from searchrl.retrieval.tagtree.retriever import TagTreeRetriever, candidates_for
    from searchrl.retrieval.tagtree.tree import load_tree

    check_outputs(("output", config.output))
    tree, facts = load_tree(config.tree if (config.tree / "meta.json").is_file() else config.tree / "tree")
    where, compute = config.collection, config.compute
    dataset = load_collection(config.dataset or facts["dataset"], where.data_dir, where.mirror, where.own_document)
    corpus, queries = dataset.corpus, _queries(config, dataset)
    _check(config, "the collection", corpus.fingerprint, facts["corpus_fingerprint"])
    say(f"dataset: {dataset.name}, {len(corpus)} documents, {len(queries)} queries")
    with closing(ModelLoader(config.serving, device=compute.device, dtype=config.dtype, cache=compute.cache)) as loader:
        encoder = loader.encoder(facts["encoder"])
        _check(config, "the encoder", encoder.fingerprint, facts["encoder_fingerprint"])
        retriever = TagTreeRetriever(
            tree, build_dense_index(corpus, encoder, loader.cache, show_progress=True, resumable=True).vectors
        )
        vectors = encoder.encode(queries.texts, kind="query", show_progress=True, description="encode queries")
        guide = _guide(config, tree, queries.texts, loader)
        found = retriever.search(
            vectors,
            config.top_k,
            own_document(queries, corpus),
            beam_width=config.beam_width,
            candidates=config.candidates or candidates_for(config.top_k, len(corpus)),
            guide=guide,
        )
        paths = [_paths(config, tree, found, row) for row in range(len(queries))]
        if config.output:
            counts = zip(paths, found.scored.tolist(), found.walk.compared.tolist(), strict=True)
            more = [{"paths": own, "scored": scored, "compared": compared} for own, scored, compared in counts]
            ranked = ranked_queries(queries.ids, corpus.ids, found.ranking)
            write_records(config.output, ranked, queries.qrels, more)
        for row in range(min(config.show, len(queries))):
            say(_paths_described(queries, corpus, paths[row], int(found.ranking.documents[row, 0]), row))
        if config.measure and queries.judged:
            measured = measure_tag_tree(
                retriever,
                queries,
                vectors,
                corpus,
                config.top_k,
                beams=config.beams,
                shares=config.shares,
                guide=guide,
            )
            say(measured_table(measured))


def _queries(config: AssignConfig, dataset: Dataset) -> QuerySet:
    from searchrl.data.dataset import QuerySet

    if config.query:
        return QuerySet([f"query-{i + 1}" for i in range(len(config.query))], list(config.query))
    queries = dataset.splits.get(config.split)
    if queries is None:
        there = ", ".join(dataset.splits) or "none"
        raise DataError(
            f"dataset {dataset.name!r} has no {config.split} queries; choose a split of: {there}, or give queries"
        )
    return queries


def _check(config: AssignConfig, what: str, found: str, expected: str) -> None:
    if found != expected:
        raise DataError(
            f"{config.tree}: {what} is not what the tree was made with ({found}, not {expected}); "
            "make the tree again with searchrl tags embed"
        )


def _guide(config: AssignConfig, tree: TagTree, texts: Sequence[str], loader: ModelLoader) -> MakeGuide | None:
    """The reward model on the way down, which remembers its scores."""
    if config.reward_model is None:
        return None
    from searchrl.retrieval.tagtree.retriever import RewardGuide
    from searchrl.reward.registry import ScorerSettings, make_reward

    reward = make_reward(config.reward_model, ScorerSettings(config.scorer), loader)
    return lambda rows: RewardGuide(tree, reward, [texts[row] for row in rows], config.reward_weight)


def _paths(config: AssignConfig, tree: TagTree, found: Found, row: int) -> list[dict[str, Any]]:
    tags, scores = found.walk.tags[row, : config.paths], found.walk.scores[row, : config.paths]
    return [
        {"path": [tree.name(node) for node in tree.path(int(tree.node_of_tag[tag]))], "score": round(float(score), 6)}
        for tag, score in zip(tags, scores, strict=True)
        if tag >= 0
    ]


def _paths_described(queries: QuerySet, corpus: Corpus, paths: list[dict[str, Any]], best: int, row: int) -> str:
    lines = [f"{queries.ids[row]}: {queries.texts[row]}"]
    lines += [f"  {way['score']:.3f}  {' > '.join(way['path'])}" for way in paths]
    if best >= 0:
        title = " ".join(corpus.full_text(best).split())[:100]
        lines.append(f"  first document: {corpus.ids[best]}: {title}")
    return "\n".join(lines)


STAGES: Stages = {
    "generate": (GenerateTagsConfig, generate),
    "embed": (EmbedTagsConfig, embed),
    "assign": (AssignConfig, assign),
}
