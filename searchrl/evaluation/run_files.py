"""Rankings and human judgments from files, whoever made them: TREC runs here, TREC or BEIR qrels there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from searchrl.data.beir import read_qrels
from searchrl.data.dataset import SPLITS, Qrels, Split
from searchrl.data.records import numbered_lines
from searchrl.data.trec import read_trec_qrels, read_trec_run
from searchrl.errors import DataError
from searchrl.evaluation.metrics import evaluate

EMBEDDED = "pydocs"
FIRST = "single_pass"
"""What eval.py's other methods are compared with; of a folder's runs it comes first."""


@dataclass(frozen=True)
class JudgedRun:
    """One run, scored.

    values: measure -> judged query id -> value; a query that the run lacks has 0. answered: judged queries for which
    the run ranks something. unjudged: how many of its queries have no judgments; they are left out.
    """

    name: str
    path: Path
    values: Mapping[str, Mapping[str, float]]
    answered: Collection[str]
    unjudged: int


def run_paths(path: Path) -> list[Path]:
    """The run files of a folder (``*.run``; single_pass first, others by name), or the path itself if it is a file."""
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.run"), key=lambda run: (run.stem != FIRST, run.name))
    if not found:
        raise DataError(f"{path}: no *.run files in this folder; name run files, or a folder that eval.py wrote")
    return found


def read_judgments(path: Path, split: Split = "test") -> tuple[str, Qrels]:
    """Read judgments: a TREC qrels file, a BEIR ``.tsv``, one split of a BEIR folder, or of the embedded ``pydocs``.

    Returns where they are from, in words, and the judgments. Raises DataError, naming file and line, where there are
    none or they are damaged.
    """
    if path.is_dir():
        file = path / "qrels" / f"{split}.tsv"
        if file.is_file():
            return str(file), read_qrels(file)
        there = ", ".join(s for s in SPLITS if (path / "qrels" / f"{s}.tsv").is_file())
        raise DataError(f"{file}: no such file; {f'choose --split of: {there}' if there else 'not a BEIR folder'}")
    if not path.exists() and str(path) == EMBEDDED:
        from searchrl.data.pydocs import load_pydocs

        splits = load_pydocs().splits
        if split not in splits:
            raise DataError(f"{EMBEDDED} has no {split} queries; choose --split of: {', '.join(splits)}")
        return f"{EMBEDDED} {split}", splits[split].qrels
    if not path.exists():
        raise DataError(f"{path}: no such file; give TREC qrels, a BEIR .tsv or folder, or {EMBEDDED}")
    _, first = next(numbered_lines(path), (0, ""))
    return str(path), read_qrels(path) if len(first.split()) == 3 else read_trec_qrels(path)


def judge_run(path: Path, qrels: Qrels, measures: Sequence[str], judgments: str) -> JudgedRun:
    """Read a run and score it, under the name in its tag column.

    judgments: what messages call the qrels. Raises DataError, naming file and line, where the run is missing or
    damaged, or ranks nothing for any judged query.
    """
    run = read_trec_run(path)
    answered = [query for query in run.rankings if query in qrels]
    if not answered:
        raise DataError(
            f"{path}: none of its {len(run.rankings)} queries (first: {next(iter(run.rankings))!r}) is judged in "
            f"{judgments} (first: {next(iter(qrels))!r}); give the judgments of this collection and split"
        )
    ranked = {query: dict(run.rankings[query]) for query in answered}
    unjudged = len(run.rankings) - len(answered)
    return JudgedRun(run.tag, path, evaluate(ranked, qrels, measures), frozenset(answered), unjudged)


def with_distinct_names(groups: Sequence[Sequence[JudgedRun]]) -> list[list[JudgedRun]]:
    """Name runs by tag, by file name where a tag comes twice in a group, by path where that is not enough either.

    All groups are named alike, so that one system has one name on every data set. Raises DataError on one file twice.
    """
    for name_of in (lambda run: run.name, lambda run: run.path.stem, lambda run: str(run.path)):
        if all(_repeated(map(name_of, runs)) is None for runs in groups):
            return [[replace(run, name=name_of(run)) for run in runs] for runs in groups]
    twice = next(name for runs in groups if (name := _repeated(str(run.path) for run in runs)))
    raise DataError(f"{twice}: given twice; name every run once")


def _repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
