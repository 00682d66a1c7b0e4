"""``searchrl compare``: which of these TREC runs is better, and is it real?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from searchrl.checks import at_least
from searchrl.command import parse, run_command
from searchrl.config import OwnDocumentName, SplitName
from searchrl.errors import ConfigError

if TYPE_CHECKING:
    from searchrl.evaluation.runs import JudgedRun


@dataclass(frozen=True)
class CompareConfig:
    """Compare and rank TREC run files, whoever made them, on human judgments, query by query."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")] = ()
    """Run files, or folders of *.run files (eval.py's). All are tested against the first, in a folder single_pass."""
    qrels: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Human judgments: TREC qrels, a BEIR .tsv or folder, or pydocs. For several data sets repeat it, and give one
    folder of runs for each, in the same order."""
    split: SplitName = "test"
    """Which of a BEIR folder's qrels."""
    baseline: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Test against the run of this name (its tag; its file name where tags repeat) instead; may be repeated."""
    measure: str = "nDCG@10"
    """What to rank and test by: any measure that ir_measures names, such as nDCG@10, AP, RR@10, P@5, R@100, ERR@20."""
    also: tuple[str, ...] = ("nDCG@10", "Recall@100", "MRR@10")
    """Further columns of the table: measures as for --measure."""
    answered_only: bool = False
    """Leave out judged queries that no run answers (runs on a sample of the queries); otherwise they count as 0."""
    own_document: OwnDocumentName = "text"
    """Which document is a query itself, and so is taken out of every run, unless it is judged relevant: text, one with
    the query's text (where --qrels has texts: a BEIR folder or pydocs); id, one with its id; none."""
    json: Path | None = None
    """Write everything, per-query values too, to this file."""
    seed: int = 42
    """Seeds the bootstrap and the randomisation tests."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl compare``."""
    run_command(_compare, arguments)


def _compare(arguments: Sequence[str]) -> None:
    config = parse(CompareConfig, arguments, "searchrl compare")
    datasets = _datasets(config)
    from searchrl.evaluation.runs import (
        compare_runs,
        judge_run,
        overview_text,
        own_documents,
        read_judgments,
        with_distinct_names,
    )
    from searchrl.files import write_text

    measures = list(dict.fromkeys([config.measure, *config.also]))
    groups: dict[str, list[JudgedRun]] = {}
    for given, paths in datasets:
        judgments, qrels = read_judgments(given, config.split)
        if judgments in groups:
            raise ConfigError(f"--qrels {given}: given twice; name the judgments of another data set")
        own = own_documents(given, config.split, qrels, config.own_document)
        groups[judgments] = [judge_run(path, qrels, measures, judgments, own) for path in paths]
    named = dict(zip(groups, with_distinct_names(list(groups.values())), strict=True))
    comparisons = compare_runs(
        named, config.measure, config.baseline, answered_only=config.answered_only, seed=config.seed
    )
    if config.json:
        content = {"seed": config.seed, "datasets": [comparison.to_json() for comparison in comparisons]}
        write_text(config.json, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    print("\n\n".join(map(str, comparisons)))
    if len(comparisons) > 1:
        print(f"\nAll data sets (p Holm above allows for all of them)\n{overview_text(comparisons)}")


def _datasets(config: CompareConfig) -> list[tuple[Path, list[Path]]]:
    """Each data set's judgments and run files. Raises ConfigError where flags do not fit together."""
    from searchrl.evaluation.runs import run_paths

    at_least("seed", config.seed, 0)
    if not config.runs or not config.qrels:
        missing = "name the run files to compare" if not config.runs else "--qrels is missing: who judged the queries?"
        raise ConfigError(f"{missing} (searchrl compare a.run b.run --qrels QRELS)")
    if len(config.qrels) == 1:
        return [(config.qrels[0], [path for given in config.runs for path in run_paths(given)])]
    if len(config.runs) != len(config.qrels) or not all(path.is_dir() for path in config.runs):
        raise ConfigError(
            f"{len(config.qrels)} --qrels need as many folders of *.run files, in the same order; "
            f"{', '.join(map(str, config.runs))} are not"
        )
    return [(qrels, run_paths(folder)) for qrels, folder in zip(config.qrels, config.runs, strict=True)]
