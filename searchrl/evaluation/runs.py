"""Rankings from files, whoever made them, side by side on the same judged queries: who ranks best, and is it real?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchrl.data.beir import qrels_file, read_qrels
from searchrl.data.dataset import SPLITS, OwnDocument, Qrels, Split
from searchrl.data.own_document import own_ids, without
from searchrl.data.records import numbered_lines, plain_or_gz, read_jsonl
from searchrl.data.trec import read_trec_qrels, read_trec_run
from searchrl.errors import ConfigError, DataError, nearest
from searchrl.evaluation.measures import evaluate
from searchrl.evaluation.results import PER_QUERY_FILE
from searchrl.evaluation.significance import (
    PairedTest,
    bootstrap_interval,
    paired_tests,
    paired_tests_json,
    paired_tests_text,
)
from searchrl.evaluation.text_table import json_number, number, text_table

FloatArray = NDArray[np.float64]

EMBEDDED = "pydocs"
FIRST = "single_pass"
"""What eval.py's other methods are compared with; of a folder's runs it comes first."""


@dataclass(frozen=True)
class JudgedRun:
    """One run, scored.

    values: measure -> judged query id -> value; a query that the run lacks has 0. answered: judged queries for which
    the run ranks something. unjudged: how many of its queries have no judgments; they are left out. asked: the queries
    that were searched for, where that is known (``eval.py`` says it beside its runs). own: for how many queries a
    document with the query's id is ranked, of which nobody can say here whether it is the query itself.
    """

    name: str
    path: Path
    values: Mapping[str, Mapping[str, float]]
    answered: Collection[str]
    unjudged: int
    asked: Collection[str] | None = None
    own: int = 0


def run_paths(path: Path) -> list[Path]:
    """The run files of a folder (``*.run``; single_pass first, others by name), or the path itself if it is a file."""
    if not path.is_dir():
        return [path]
    found = sorted([*path.glob("*.run"), *path.glob("*.run.gz")], key=lambda run: (run.stem != FIRST, run.name))
    if not found:
        raise DataError(f"{path}: no *.run files in this folder; name run files, or a folder that eval.py wrote")
    return found


def read_judgments(path: Path, split: Split = "test") -> tuple[str, Qrels]:
    """Read judgments: a TREC qrels file, a BEIR ``.tsv``, one split of a BEIR folder, or of the embedded ``pydocs``.

    Returns where they are from, in words, and the judgments. Raises DataError, naming file and line, where there are
    none or they are damaged.
    """
    if path.is_dir():
        file = qrels_file(path, split)
        if file.is_file():
            return str(file), read_qrels(file)
        there = ", ".join(s for s in SPLITS if qrels_file(path, s).is_file())
        raise DataError(f"{file}: no such file; {f'choose another split: {there}' if there else 'not a BEIR folder'}")
    if not path.exists() and str(path) == EMBEDDED:
        from searchrl.data.pydocs import load_pydocs

        splits = load_pydocs().splits
        if split not in splits:
            raise DataError(f"{EMBEDDED} has no {split} queries; choose another split: {', '.join(splits)}")
        return f"{EMBEDDED} {split}", splits[split].qrels
    if not path.exists():
        raise DataError(f"{path}: no such file; give TREC qrels, a BEIR .tsv or folder, or {EMBEDDED}")
    _, first = next(numbered_lines(path), (0, ""))
    return str(path), read_qrels(path) if len(first.split()) == 3 else read_trec_qrels(path)


def own_documents(path: Path, split: Split, qrels: Qrels, rule: OwnDocument) -> dict[str, str] | None:
    """Query id -> the document that it is itself, which no run may rank; None where judgments without texts cannot say.

    path, split: as for ``read_judgments``, whose ``qrels`` these are. A folder's texts are read.
    """
    if rule == "none":
        return {}
    if rule == "id":
        return {query: query for query, judged in qrels.items() if judged.get(query, 0) <= 0}
    if all(plain_or_gz(path / name).is_file() for name in ("corpus.jsonl", "queries.jsonl")):
        from searchrl.data.beir import read_beir_folder

        dataset = read_beir_folder(path)
    elif not path.exists() and str(path) == EMBEDDED:
        from searchrl.data.pydocs import load_pydocs

        dataset = load_pydocs()
    else:
        return None
    return own_ids(dataset.splits[split], dataset.corpus)


def judge_run(
    path: Path, qrels: Qrels, measures: Sequence[str], judgments: str, own: Mapping[str, str] | None = None
) -> JudgedRun:
    """Read a run and score it, under the name in its tag column.

    judgments: what messages call the qrels. own: what ``own_documents`` gives. Raises DataError, naming file and line,
    where the run is missing or damaged, or ranks something but nothing for any judged query.
    """
    run = read_trec_run(path)
    answered = [query for query in run.rankings if query in qrels]
    if run.rankings and not answered:
        raise DataError(
            f"{path}: none of its {len(run.rankings)} queries (first: {next(iter(run.rankings))!r}) is judged in "
            f"{judgments} (first: {next(iter(qrels))!r}); give the judgments of this collection and split"
        )
    ranked = without({query: dict(run.rankings[query]) for query in answered}, own or {})
    doubtful = sum(query in ranked[query] and qrels[query].get(query, 0) <= 0 for query in answered)
    return JudgedRun(
        run.tag,
        path,
        evaluate(ranked, qrels, measures),
        frozenset(query for query in answered if ranked[query]),
        len(run.rankings) - len(answered),
        _asked(path),
        doubtful if own is None else 0,
    )


def _asked(path: Path) -> Collection[str] | None:
    """The queries that a run of ``eval.py`` was made for: those of ``per_query.jsonl`` beside it; None without one."""
    beside = path.with_name(PER_QUERY_FILE)
    if not beside.is_file():
        return None
    lines = [record for _, record in read_jsonl(beside)]
    if not all(isinstance(r.get("methods"), dict) and isinstance(r.get("query_id"), str) for r in lines):
        raise DataError(f"{beside}: not what eval.py wrote; move it away, or evaluate again")
    return frozenset(r["query_id"] for r in lines) if lines and path.stem in lines[0]["methods"] else None


def with_distinct_names(groups: Sequence[Sequence[JudgedRun]]) -> list[list[JudgedRun]]:
    """Name runs by tag, by file name where a tag comes twice in a group, by path where that is not enough either.

    All groups are named alike, so that one system has one name on every data set. Raises DataError on one file twice.
    """
    for name_of in (lambda run: run.name, lambda run: run.path.stem, lambda run: str(run.path)):
        if all(len(set(map(name_of, runs))) == len(runs) for runs in groups):
            return [[replace(run, name=name_of(run)) for run in runs] for runs in groups]
    twice = next(path for runs in groups for path, n in Counter(run.path for run in runs).items() if n > 1)
    raise DataError(f"{twice}: given twice; name every run once")


@dataclass(frozen=True, eq=False)
class RunComparison:
    """Runs on one data set, as text (``str``) and as JSON values. ``compare_runs`` makes them.

    judgments: where the human judgments are from. queries: the n that count. measure: what ranking, intervals and tests
    are about. intervals: run -> 95% bootstrap interval of its mean.
    """

    judgments: str
    queries: Sequence[str]
    runs: Sequence[JudgedRun]
    measure: str
    intervals: Mapping[str, tuple[float, float]]
    tests: Sequence[PairedTest]
    not_asked: int = 0
    """Judged queries that some run was not made for; they are left out."""

    def mean(self, run: JudgedRun, measure: str) -> float:
        """Mean of a measure over the queries."""
        return float(_values(run, measure, self.queries).mean())

    @property
    def ranked(self) -> list[JudgedRun]:
        """Best mean first; equals in the order given."""
        return sorted(self.runs, key=lambda run: -self.mean(run, self.measure))

    def __str__(self) -> str:
        parts = [
            f"{self.judgments}: {_counted(len(self.queries), 'judged query')}",
            *self.notes(),
            "",
            self.table_text(),
        ]
        if self.tests:
            parts += ["", f"Paired tests on {self.measure}", paired_tests_text(self.tests)]
        return "\n".join(parts)

    def notes(self) -> list[str]:
        """Queries that a run lacks, and those that nobody judged."""
        lines = []
        if self.not_asked:
            left = _counted(self.not_asked, "judged query")
            lines.append(f"note: {left} left out: not every run here searched for them (`num_queries` of eval.py)")
        for run in self.runs:
            missing = [query for query in self.queries if query not in run.answered]
            if missing:
                lacking = _counted(len(missing), "judged query")
                lines.append(f"note: {run.name} lacks {lacking} (first: {missing[0]!r}), counted as 0")
            if run.unjudged:
                lines.append(f"note: {run.name} has {_counted(run.unjudged)} without judgments, left out")
            if run.own:
                lines.append(
                    f"note: {run.name} ranks a document with the query's own id for {_counted(run.own)}; whether it is "
                    "the query itself, these judgments do not say: give the collection's folder, or set `own_document`"
                )
        return lines

    def table_text(self) -> str:
        """One row per run, best first: mean of each measure, and the interval of the one that is compared."""
        measures = [self.measure, *(m for m in self.runs[0].values if m != self.measure)]
        rows = []
        for run in self.ranked:
            first, *others = (number(self.mean(run, measure)) for measure in measures)
            low, high = (number(bound) for bound in self.intervals[run.name])
            rows.append([run.name, first, f"[{low}, {high}]", *others])
        return text_table(["run", self.measure, "95% interval", *measures[1:]], rows)

    def to_json(self) -> dict[str, Any]:
        """Return everything the text shows, unrounded, and every query's values, as JSON values; runs best first."""
        runs = {
            run.name: {
                "file": str(run.path),
                "metrics": {measure: self.mean(run, measure) for measure in run.values},
                "interval": [json_number(bound) for bound in self.intervals[run.name]],
                "missing": sum(query not in run.answered for query in self.queries),
                "unjudged": run.unjudged,
                "per_query": {m: {q: values[q] for q in self.queries} for m, values in run.values.items()},
            }
            for run in self.ranked
        }
        facts = {
            "judgments": self.judgments,
            "queries": len(self.queries),
            "not_asked": self.not_asked,
            "measure": self.measure,
        }
        return {**facts, "runs": runs, "tests": paired_tests_json(self.tests)}


def compare_runs(
    datasets: Mapping[str, Sequence[JudgedRun]],
    measure: str,
    baselines: Sequence[str] = (),
    *,
    answered_only: bool = False,
    seed: int = 0,
) -> list[RunComparison]:
    """Compare the runs of each data set (by where its judgments are from) with the baselines, the first run if none.

    Every judged query counts but those that a run was not made for; ``answered_only`` leaves out those that no run
    answers. Raises DataError where no query is left. Holm's correction is over runs
    and data sets. Raises ConfigError on a baseline that is not among the runs of every data set.
    """
    baselines = baselines or [next(iter(datasets.values()))[0].name]
    for judgments, runs in datasets.items():
        for baseline in baselines:
            if baseline not in (names := [run.name for run in runs]):
                raise ConfigError(
                    f"baseline {baseline!r} is not among the runs on {judgments}; {nearest(baseline, names)}"
                )
    asked = [
        [q for q in runs[0].values[measure] if all(run.asked is None or q in run.asked for run in runs)]
        for runs in datasets.values()
    ]
    queries = [
        [q for q in those if not answered_only or any(q in run.answered for run in runs)]
        for those, runs in zip(asked, datasets.values(), strict=True)
    ]
    for judgments, those in zip(datasets, queries, strict=True):
        if not those:
            raise DataError(f"{judgments}: no judged query was searched for by every run here; compare others")
    values = [
        {run.name: _values(run, measure, those) for run in runs}
        for runs, those in zip(datasets.values(), queries, strict=True)
    ]
    tests = paired_tests(values, baselines, seed)
    return [
        RunComparison(
            judgments=judgments,
            queries=those,
            runs=tuple(runs),
            measure=measure,
            intervals={name: bootstrap_interval(array, seed) for name, array in by_name.items()},
            tests=tuple(tested),
            not_asked=len(runs[0].values[measure]) - len(possible),
        )
        for (judgments, runs), possible, those, by_name, tested in zip(
            datasets.items(), asked, queries, values, tests, strict=True
        )
    ]


def overview_text(comparisons: Sequence[RunComparison]) -> str:
    """Several data sets: each run's mean on each, and their mean, best first; a run that lacks one has no mean."""
    means: dict[str, list[float]] = {}
    for i, comparison in enumerate(comparisons):
        for run in comparison.runs:
            row = means.setdefault(run.name, [float("nan")] * len(comparisons))
            row[i] = comparison.mean(run, comparison.measure)
    mean = {name: float(np.mean(row)) for name, row in means.items()}
    ranked = sorted(means, key=lambda name: -np.nan_to_num(mean[name], nan=-1.0))
    rows = [[name, *map(number, means[name]), number(mean[name])] for name in ranked]
    return text_table([comparisons[0].measure, *(c.judgments for c in comparisons), "mean"], rows)


def _values(run: JudgedRun, measure: str, queries: Sequence[str]) -> FloatArray:
    return np.array([run.values[measure][query] for query in queries], dtype=np.float64)


def _counted(n: int, noun: str = "query") -> str:
    return f"1 {noun}" if n == 1 else f"{n} {noun.removesuffix('y')}ies"
