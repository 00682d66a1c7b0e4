"""``python -m searchrl.tagtree.assign``: walk queries down a tag tree, to paths and to documents."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchrl.command import parse, run_command
from searchrl.config import DtypeName, EngineConfig, ScorerName, SplitName
from searchrl.errors import ConfigError

if TYPE_CHECKING:
    from searchrl.data.dataset import Dataset, QuerySet
    from searchrl.models.loader import ModelLoader
    from searchrl.tagtree.retriever import Found, MakeGuide, TagTreeRetriever
    from searchrl.tagtree.tree import TagTree


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
    device: str = "auto"
    """auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    dtype: DtypeName = "auto"
    """Numeric format of the reward model."""
    serving: EngineConfig = field(default_factory=EngineConfig)
    data_dir: Path | None = None
    """Where collections lie and downloads go; $SEARCHRL_DATA if not given."""
    mirror: str | None = None
    """Base address to download BEIR zips from instead of the public host."""
    cache: bool = True
    """Keep vectors and scores, so that a killed command goes on where it stopped."""

    def __post_init__(self) -> None:
        """Refuse what leads nowhere."""
        for name, least in (("top_k", 1), ("beam_width", 1), ("candidates", 0), ("paths", 0), ("show", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least {least}")
        if self.candidates and self.candidates < self.top_k:
            raise ConfigError(f"--candidates {self.candidates}: must be at least --top-k, {self.top_k}, or 0")
        if not 0 <= self.reward_weight <= 1:
            raise ConfigError(f"--reward-weight {self.reward_weight}: must lie between 0 and 1")
        if any(width < 1 for width in self.beams) or not all(0 < share <= 1 for share in self.shares):
            raise ConfigError("--beams must be at least 1, --shares above 0 and at most 1")
        if self.reward_model is None and self.serving.engine == "vllm":
            raise ConfigError("--engine vllm is for language models: name one with --reward-model")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.tagtree.assign``."""
    run_command(_assign, arguments)


def _assign(arguments: Sequence[str]) -> None:
    config = parse(AssignConfig, arguments, "python -m searchrl.tagtree.assign")
    from searchrl.evaluation.embed import obtain_index
    from searchrl.evaluation.stage_files import ranked_queries, write_records
    from searchrl.evaluation.stages import check_outputs, load_collection, say
    from searchrl.models.loader import ModelLoader
    from searchrl.reward.gain import own_document
    from searchrl.tagtree.retriever import TagTreeRetriever, candidates_for
    from searchrl.tagtree.tree import load_tree

    check_outputs(("--output", config.output))
    tree, facts = load_tree(config.tree if (config.tree / "meta.json").is_file() else config.tree / "tree")
    dataset = load_collection(config.dataset or facts["dataset"], config.data_dir, config.mirror)
    corpus, queries = dataset.corpus, _queries(config, dataset)
    _check(config, "the collection", corpus.fingerprint, facts["corpus_fingerprint"])
    say(f"dataset: {dataset.name}, {len(corpus)} documents, {len(queries)} queries")
    with closing(ModelLoader(config.serving, device=config.device, dtype=config.dtype, cache=config.cache)) as loader:
        encoder = loader.encoder(facts["encoder"])
        _check(config, "the encoder", encoder.fingerprint, facts["encoder_fingerprint"])
        retriever = TagTreeRetriever(tree, obtain_index(corpus, encoder, loader.cache).vectors)
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
        if config.output:
            ranked = ranked_queries(queries.ids, corpus.ids, found.ranking)
            write_records(config.output, ranked, queries.qrels, _more(config, tree, found))
        for row in range(min(config.show, len(queries))):
            say(_described(config, queries, dataset, tree, found, row))
        if config.measure and queries.judged:
            say(_measured(config, dataset, queries, vectors, retriever, guide))


def _queries(config: AssignConfig, dataset: Dataset) -> QuerySet:
    from searchrl.data.dataset import QuerySet
    from searchrl.errors import DataError

    if config.query:
        return QuerySet([f"query-{i + 1}" for i in range(len(config.query))], list(config.query))
    queries = dataset.splits.get(config.split)
    if queries is None:
        there = ", ".join(dataset.splits) or "none"
        raise DataError(
            f"dataset {dataset.name!r} has no {config.split} queries; choose --split of: {there}, or use --query"
        )
    return queries


def _check(config: AssignConfig, what: str, found: str, expected: str) -> None:
    from searchrl.errors import DataError

    if found != expected:
        raise DataError(
            f"{config.tree}: {what} is not what the tree was made with ({found}, not {expected}); "
            "make the tree again with embed_tags"
        )


def _guide(config: AssignConfig, tree: TagTree, texts: Sequence[str], loader: ModelLoader) -> MakeGuide | None:
    """The reward model on the way down, behind the memory of its scores."""
    if config.reward_model is None:
        return None
    from searchrl.reward.registry import ScorerSettings, make_reward
    from searchrl.tagtree.reward_guide import RewardGuide

    reward = make_reward(config.reward_model, ScorerSettings(config.scorer), loader)
    return lambda rows: RewardGuide(tree, reward, [texts[row] for row in rows], config.reward_weight)


def _paths(config: AssignConfig, tree: TagTree, found: Found, row: int) -> list[dict[str, Any]]:
    tags, scores = found.walk.tags[row, : config.paths], found.walk.scores[row, : config.paths]
    return [
        {"path": [tree.name(node) for node in tree.path(int(tree.node_of_tag[tag]))], "score": round(float(score), 6)}
        for tag, score in zip(tags, scores, strict=True)
        if tag >= 0
    ]


def _more(config: AssignConfig, tree: TagTree, found: Found) -> list[dict[str, Any]]:
    counts = zip(found.scored.tolist(), found.walk.compared.tolist(), strict=True)
    return [
        {"paths": _paths(config, tree, found, row), "scored": scored, "compared": compared}
        for row, (scored, compared) in enumerate(counts)
    ]


def _described(config: AssignConfig, queries: QuerySet, dataset: Dataset, tree: TagTree, found: Found, row: int) -> str:
    lines = [f"{queries.ids[row]}: {queries.texts[row]}"]
    for way in _paths(config, tree, found, row):
        lines.append(f"  {way['score']:.3f}  {' > '.join(way['path'])}")
    best = found.ranking.documents[row, 0]
    if best >= 0:
        title = " ".join(dataset.corpus.full_text(int(best)).split())[:100]
        lines.append(f"  first document: {dataset.corpus.ids[best]}: {title}")
    return "\n".join(lines)


def _measured(
    config: AssignConfig,
    dataset: Dataset,
    queries: QuerySet,
    vectors: Any,
    retriever: TagTreeRetriever,
    guide: MakeGuide | None,
) -> str:
    from searchrl.data.dataset import QuerySet
    from searchrl.tagtree.measure import measure, measured_table

    rows = [i for i, name in enumerate(queries.ids) if name in queries.qrels]
    judged = QuerySet([queries.ids[i] for i in rows], [queries.texts[i] for i in rows], queries.qrels)
    of_judged = None if guide is None else lambda places: guide([rows[place] for place in places])
    found = measure(
        retriever,
        judged,
        vectors[rows],
        dataset.corpus,
        config.top_k,
        beams=config.beams,
        shares=config.shares,
        guide=of_judged,
    )
    return measured_table(found)


if __name__ == "__main__":
    main()
