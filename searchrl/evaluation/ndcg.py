"""``python -m searchrl.evaluation.ndcg``: what rankings are worth on a BEIR collection's human judgments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from searchrl.command import parse, run_command
from searchrl.config import SplitName
from searchrl.errors import ConfigError


@dataclass(frozen=True)
class NdcgConfig:
    """Measure rankings on a BEIR collection's human judgments: nDCG, MAP, Recall, P and MRR at some cutoffs.

    Every judged query counts: one that a file does not rank scores 0. Which of several is better, and whether that is
    chance, is what python -m searchrl.evaluation.compare says.
    """

    results: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE ...")]
    """Rankings: --output-eval or --output of the other stages, or TREC runs."""
    dataset_path: str
    """The collection they rank: a BEIR folder, or a name."""
    split: SplitName = "test"
    """Whose judgments."""
    k_values: tuple[int, ...] = (1, 3, 5, 10, 100)
    """Cutoffs."""
    output: Path | None = None
    """JSON file with the means and every query's values."""
    data_dir: Path | None = None
    """Where collections lie and downloads go; $SEARCHRL_DATA if not given."""
    mirror: str | None = None
    """Base address to download BEIR zips from instead of the public host."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not self.results:
            raise ConfigError("name the files to measure: --output-eval of the embed and rerank stages, or TREC runs")
        if not self.k_values or min(self.k_values) < 1:
            raise ConfigError(f"--k-values {' '.join(map(str, self.k_values))}: give cutoffs of at least 1")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.evaluation.ndcg``."""
    run_command(_ndcg, arguments)


def _ndcg(arguments: Sequence[str]) -> None:
    config = parse(NdcgConfig, arguments, "python -m searchrl.evaluation.ndcg")
    from searchrl.evaluation import stage_files, stages
    from searchrl.evaluation.metrics import evaluate
    from searchrl.evaluation.text_table import number, text_table

    stages.check_outputs(("--output", config.output), inputs=config.results)
    results = {str(path): stage_files.read_results(path) for path in config.results}
    dataset = stages.load_collection(config.dataset_path, config.data_dir, config.mirror)
    queries = stages.judged_queries(dataset, config.split)
    stages.say(stages.describe(dataset, config.split, queries))

    names = [f"{name}@{k}" for name in ("nDCG", "MAP", "Recall", "P", "MRR") for k in config.k_values]
    values = {}
    for path, run in results.items():
        stages.check_answered(run, queries, path)
        values[path] = evaluate(run, queries.qrels, names)
    if config.output:
        stage_files.write_metrics(config.output, values)
    for path, by_measure in values.items():
        means = stage_files.mean_values(by_measure)
        rows = [
            [f"@{k}", *(number(means[f"{name}@{k}"]) for name in ("nDCG", "MAP", "Recall", "P", "MRR"))]
            for k in config.k_values
        ]
        stages.say(f"\n{path}\n{text_table(['cutoff', 'nDCG', 'MAP', 'Recall', 'P', 'MRR'], rows)}")


if __name__ == "__main__":
    main()
