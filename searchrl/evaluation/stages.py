"""What the BEIR stages (``embed``, ``rerank``, ``ndcg``) do alike: find the collection, check, report."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from searchrl.command import check_output_file
from searchrl.config import SplitName
from searchrl.data.dataset import Corpus, Dataset, QuerySet
from searchrl.errors import ConfigError, DataError, OutputError
from searchrl.evaluation.stage_files import RankedQuery, evaluation_files
from searchrl.retrieval.ranking import NO_DOCUMENT, Ranking


def load_collection(dataset_path: str, data_dir: Path | None, mirror: str | None) -> Dataset:
    """Load the collection in a folder or of a name; one of BEIR's smaller ones is downloaded where it is missing.

    A path that does not exist and ends in such a collection's name (``datasets/scifact``) is where it is downloaded
    to. Errors as ``load_dataset``'s.
    """
    from searchrl.data.download import BEIR_MD5, fetch_beir
    from searchrl.data.load import load_dataset

    path = Path(dataset_path).expanduser()
    if path.name != dataset_path and path.name in BEIR_MD5 and not path.exists():
        fetch_beir(path.name, path.parent, mirror)
    return load_dataset(dataset_path, data_dir=data_dir, mirror=mirror)


def judged_queries(dataset: Dataset, split: SplitName) -> QuerySet:
    """The queries of one split, all with judgments. Raises DataError saying which splits there are."""
    queries = dataset.splits.get(split)
    if queries is None or not queries.judged:
        there = ", ".join(name for name, found in dataset.splits.items() if found.judged) or "none"
        raise DataError(f"dataset {dataset.name!r} has no {split} queries with judgments; choose --split of: {there}")
    return queries


def describe(dataset: Dataset, split: SplitName, queries: QuerySet) -> str:
    """Sizes, and what a reader of the results must know about the data."""
    lines = [f"dataset: {dataset.name}, {len(dataset.corpus)} documents, {len(queries)} {split} queries"]
    return "\n".join([*lines, *(f"  note: {note}" for note in dataset.notes)])


def resolve(ranked: Sequence[RankedQuery], queries: QuerySet, corpus: Corpus, path: Path) -> tuple[list[str], Ranking]:
    """Texts of the ranked queries, and their rankings as arrays. path: the file they are from.

    Raises DataError, naming it, for a query that is not in the split, or a document that is not in the corpus.
    """
    text_of = dict(zip(queries.ids, queries.texts, strict=True))
    documents = np.full((len(ranked), max(len(query.key_ids) for query in ranked)), NO_DOCUMENT, dtype=np.int32)
    scores = np.full(documents.shape, -np.inf, dtype=np.float32)
    for row, query in enumerate(ranked):
        if query.query_id not in text_of:
            raise DataError(f"{path}: query {query.query_id!r} is not a judged one of this collection and --split")
        unknown = next((key_id for key_id in query.key_ids if key_id not in corpus.position), None)
        if unknown is not None:
            raise DataError(f"{path}: query {query.query_id!r}: no document {unknown!r} in this collection")
        documents[row, : len(query.key_ids)] = [corpus.position[key_id] for key_id in query.key_ids]
        scores[row, : len(query.key_ids)] = query.scores
    return [text_of[query.query_id] for query in ranked], Ranking(documents, scores)


def check_instances(num_instances: int) -> None:
    """Raise ConfigError on several copies of a model: one process has one."""
    if num_instances < 1:
        raise ConfigError(f"--num-instances {num_instances}: must be at least 1")
    if num_instances > 1:
        raise ConfigError(
            f"--num-instances {num_instances}: one process runs one copy of a model. Start a server with several "
            f"(vllm serve MODEL --data-parallel-size {num_instances}) and use --engine http without this flag"
        )


def check_answered(run: Collection[str], queries: QuerySet, path: str) -> None:
    """Raise DataError where a file of rankings answers none of these queries: it is of another collection or split."""
    if not any(query_id in queries.qrels for query_id in run):
        raise DataError(
            f"{path}: none of its {len(run)} queries (first: {next(iter(run))!r}) is judged in this collection and "
            "split; choose --dataset-path and --split"
        )


def check_outputs(*outputs: tuple[str, Path | None], inputs: Collection[Path] = ()) -> None:
    """Raise OutputError where a file (its flag and path) cannot be written or is there twice, before any work is done.

    Nothing in ``inputs`` may be overwritten. ``--output-eval`` is a .json file, and stands for those beside it, too.
    """
    taken = {path.absolute() for path in inputs}
    for flag, path in outputs:
        if path is None:
            continue
        if not path.is_dir() and flag == "--output-eval" and path.suffix != ".json":
            raise OutputError(
                f"{path}: name a .json file with {flag}; a .run and a .metrics.json are written beside it"
            )
        for file in evaluation_files(path) if flag == "--output-eval" else [path]:
            if file.absolute() in taken:
                raise OutputError(f"{file}: would be overwritten; give another {flag}")
            taken.add(file.absolute())
        check_output_file(path, flag)


def say(text: str) -> None:
    """Print what a stage found."""
    print(text, flush=True)


def metrics_table(systems: Mapping[str, Mapping[str, float]]) -> str:
    """Means by system and measure, as text."""
    from searchrl.evaluation.text_table import number, text_table

    measures: Sequence[str] = list(next(iter(systems.values())))
    rows = [[name, *(number(means[measure]) for measure in measures)] for name, means in systems.items()]
    return text_table(["ranking", *measures], rows)
