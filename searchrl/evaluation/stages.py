"""A BEIR evaluation in stages: ``embed`` ranks a collection's documents, ``rerank`` reorders the top.

``results`` says how what they find is written and read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from searchrl.command import check_output_file
from searchrl.config import SplitName
from searchrl.data.dataset import Corpus, Dataset, OwnDocument, QuerySet
from searchrl.data.own_document import own_document
from searchrl.errors import DataError, OutputError
from searchrl.evaluation.results import RankedQuery, evaluation_files, ranked_queries
from searchrl.files import user_path
from searchrl.progress import progress_bar
from searchrl.retrieval.dense import DenseIndex, TextEncoder, build_dense_index
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, FloatArray, IntArray, Ranking
from searchrl.reward.reward_model import RewardModel


@dataclass(frozen=True, eq=False)
class Reranked:
    """What ``rerank`` found: the rankings, and the reward model's scores (n, top k) of the documents as they stood."""

    ranked: Sequence[RankedQuery]
    scores: FloatArray


def embed(
    dataset: Dataset, queries: QuerySet, encoder: TextEncoder, *, top_k: int, cache: Path | None, device: str = "cpu"
) -> list[RankedQuery]:
    """Rank the documents of a collection by cosine for each query; a query's own document is left out.

    cache: where document vectors are kept, None for nowhere. device: where similarities are computed.
    """
    index = build_dense_index(dataset.corpus, encoder, cache, show_progress=True, resumable=True)
    vectors = encoder.encode(queries.texts, kind="query", show_progress=True, description="encode queries")
    ranking = search(index, vectors, top_k, own_document(queries, dataset.corpus), device)
    return ranked_queries(queries.ids, dataset.corpus.ids, ranking)


def rerank(
    ranked: Sequence[RankedQuery],
    queries: QuerySet,
    corpus: Corpus,
    reward_model: RewardModel,
    *,
    top_k: int = 20,
    weight: float = 0.4,
    batch_size: int = 128,
    source: Path | str = "the rankings",
) -> Reranked:
    """Reorder the first ``top_k`` of each ranking by the first stage's and the reward model's scores, as z-scores.

    weight: the reward model's share, 0 to 1. batch_size: pairs scored together. source: what errors call the rankings.
    Raises DataError for a query or document that is not of this collection.
    """
    from searchrl.retrieval.fusion import mix

    texts, before = resolve(ranked, queries, corpus, source)
    scores = score_pairs(reward_model, corpus, texts, before.documents[:, :top_k], batch_size)
    after = mix(before, scores, weight, "zscore")
    return Reranked(ranked_queries([query.query_id for query in ranked], corpus.ids, after), scores)


def score_pairs(
    reward_model: RewardModel, corpus: Corpus, texts: Sequence[str], documents: IntArray, batch_size: int
) -> FloatArray:
    """Score (n, k) documents for n queries under a bar: (n, k), NaN where there is no document.

    batch_size: pairs scored together, about; those of one document stay together, so that a language model reads it
    once for all queries. The batches are always the same, and whole batches are what a reward model with a memory
    (``reward/reward_model.py``) keeps: a job that was killed gives the scores that it would have given.
    """
    from searchrl.reward.reward_model import JudgedPool

    book = JudgedPool(reward_model, corpus, texts)
    batches = book.batches(documents, batch_size)
    with progress_bar(sum(map(len, batches)), "rerank", "pair") as bar:
        for pairs in batches:
            book.learn(pairs, book.score(pairs))
            bar.update(len(pairs))
    return book.lookup(documents)


def load_collection(
    dataset_path: str, data_dir: Path | None, mirror: str | None, own_document: OwnDocument = "text"
) -> Dataset:
    """Load the collection in a folder or of a name; one of BEIR's smaller ones is downloaded where it is missing.

    A path that does not exist and ends in such a collection's name (``datasets/scifact``) is where it is downloaded
    to. Errors as ``load_dataset``'s.
    """
    from searchrl.data.download import BEIR_MD5, fetch_beir
    from searchrl.data.load import load_dataset

    path = user_path(dataset_path)
    if path.name != dataset_path and path.name in BEIR_MD5 and not path.exists():
        fetch_beir(path.name, path.parent, mirror)
    return load_dataset(dataset_path, data_dir=data_dir, mirror=mirror, own_document=own_document)


def judged_queries(dataset: Dataset, split: SplitName) -> QuerySet:
    """The queries of one split, all with judgments. Raises DataError saying which splits there are."""
    queries = dataset.splits.get(split)
    if queries is None or not queries.judged:
        there = ", ".join(name for name, found in dataset.splits.items() if found.judged) or "none"
        raise DataError(f"dataset {dataset.name!r} has no {split} queries with judgments; splits that have: {there}")
    return queries


def describe(dataset: Dataset, split: SplitName, queries: QuerySet) -> str:
    """Sizes, and what a reader of the results must know about the data."""
    lines = [f"dataset: {dataset.name}, {len(dataset.corpus)} documents, {len(queries)} {split} queries"]
    return "\n".join([*lines, *(f"  note: {note}" for note in dataset.notes)])


def resolve(
    ranked: Sequence[RankedQuery], queries: QuerySet, corpus: Corpus, source: Path | str
) -> tuple[list[str], Ranking]:
    """Texts of the ranked queries, and their rankings as arrays. source: where they are from, for errors.

    Raises DataError for a query that is not in the split, or a document that is not in the corpus.
    """
    text_of = dict(zip(queries.ids, queries.texts, strict=True))
    documents = np.full((len(ranked), max(len(query.key_ids) for query in ranked)), NO_DOCUMENT, dtype=DOCUMENT)
    scores = np.full(documents.shape, -np.inf, dtype=np.float32)
    for row, query in enumerate(ranked):
        if query.query_id not in text_of:
            raise DataError(f"{source}: query {query.query_id!r} is not a judged one of this collection and split")
        unknown = next((key_id for key_id in query.key_ids if key_id not in corpus.position), None)
        if unknown is not None:
            raise DataError(f"{source}: query {query.query_id!r}: no document {unknown!r} in this collection")
        documents[row, : len(query.key_ids)] = [corpus.position[key_id] for key_id in query.key_ids]
        scores[row, : len(query.key_ids)] = query.scores
    return [text_of[query.query_id] for query in ranked], Ranking(documents, scores)


def check_answered(run: Collection[str], queries: QuerySet, source: Path | str) -> None:
    """Raise DataError where rankings answer none of these queries: they are of another collection or split."""
    if not any(query_id in queries.qrels for query_id in run):
        raise DataError(
            f"{source}: none of its {len(run)} queries (first: {next(iter(run))!r}) is judged in this collection and "
            "split; choose another collection or split"
        )


def check_outputs(*outputs: tuple[str, Path | None], inputs: Collection[Path] = ()) -> None:
    """Raise OutputError where a file (its setting's name and path) cannot be written or is there twice.

    Called before any work is done. Nothing in ``inputs`` may be overwritten.
    """
    taken = {path.absolute() for path in inputs}
    for name, path in outputs:
        if path is None:
            continue
        if path.absolute() in taken:
            raise OutputError(f"{path}: would be overwritten; give another {name}")
        taken.add(path.absolute())
        check_output_file(path, name)


def evaluation_outputs(name: str, path: Path) -> list[tuple[str, Path]]:
    """The files that ``results.write_evaluation`` makes, for ``check_outputs``. Raises OutputError on no .json."""
    if not path.is_dir() and path.suffix != ".json":
        raise OutputError(f"{path}: name a .json file with {name}; a .run and a .metrics.json are written beside it")
    return [(name, path)] if path.is_dir() else [(name, file) for file in evaluation_files(path)]


PART_TEXTS = 1024
"""Texts in a part: what a kill loses at most."""
BLOCK_CELLS = 1 << 27
"""Scores held on a device at once: 512 MB."""


def search(index: DenseIndex, queries: FloatArray, k: int, exclude: IntArray, device: str) -> Ranking:
    """``DenseIndex.search`` on a device of torch's; on the CPU that itself, which is faster there.

    queries: (n, dim). exclude: (n,) a document that is not to be returned, negative for none. Of documents with the
    very same score at the end of a list, any may be returned by a GPU; within it, they stand by the lower index.
    """
    if device == "cpu":
        return index.search(queries, k, exclude)
    return search_with_torch(index, queries, k, exclude, device)


def search_with_torch(index: DenseIndex, queries: FloatArray, k: int, exclude: IntArray, device: str) -> Ranking:
    """See ``search``; any device."""
    import torch

    vectors = torch.from_numpy(np.array(index.vectors)).to(device)
    height, found = max(1, BLOCK_CELLS // max(1, len(index))), min(k, len(index))
    documents = np.full((len(queries), k), NO_DOCUMENT, dtype=DOCUMENT)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for start in range(0, len(queries), height):
        rows = slice(start, start + height)
        block = torch.from_numpy(np.ascontiguousarray(queries[rows])).to(device) @ vectors.T
        own = np.flatnonzero(exclude[rows] >= 0)
        block[own.tolist(), exclude[rows][own].tolist()] = -torch.inf
        values, places = (tensor.cpu().numpy() for tensor in block.topk(found, dim=1))
        order = np.lexsort((places, -values), axis=1)
        scores[rows, :found] = np.take_along_axis(values, order, axis=1)
        documents[rows, :found] = np.take_along_axis(places, order, axis=1)
    documents[np.isneginf(scores)] = NO_DOCUMENT
    return Ranking(documents, scores)
