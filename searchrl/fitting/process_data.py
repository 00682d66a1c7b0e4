"""``python -m searchrl.preference.process_data``: documents from anywhere, shuffled, as the table ``df.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from searchrl.command import parse, run_command
from searchrl.errors import ConfigError

SMALL = 10_000
"""Rows of ``df_small.csv`` at most."""


@dataclass(frozen=True)
class ProcessDataConfig:
    """Read documents from anywhere, shuffle them, and write them as tables."""

    dataset_name: str
    """A folder of text files or tables, a BEIR folder, a .csv, .tsv, .jsonl, .json, .parquet or text file, a dataset's
    name (pydocs, scifact, ...), or owner/name on the Hugging Face hub."""
    output_dir: Path
    """Gets df.csv, df_small.csv (the first 10,000 rows) and the same as a `datasets` DatasetDict: dataset_dict.json and
    the folder train."""
    n_sample: int | None = None
    """Documents to keep; all if not given."""
    text_column: str = "text"
    """Field of tables and hub data sets that holds the text."""
    dataset_config: str | None = None
    """Configuration of a hub data set."""
    split: str = "train"
    """Split of a hub data set."""
    stream: bool = False
    """Stream a hub data set instead of downloading it whole; needs --n-sample."""
    random_seed: int = 42
    """Seeds the shuffle."""

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled."""
        if self.n_sample is not None and self.n_sample < 1:
            raise ConfigError(f"--n-sample {self.n_sample}: must be at least 1")
        if self.random_seed < 0:
            raise ConfigError(f"--random-seed {self.random_seed}: must be at least 0")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.preference.process_data``."""
    run_command(_process, arguments)


def _process(arguments: Sequence[str]) -> None:
    run(parse(ProcessDataConfig, arguments, "python -m searchrl.preference.process_data"))


def run(config: ProcessDataConfig) -> None:
    """Do the stage's work."""
    from searchrl.device import rng
    from searchrl.evaluation.stages import check_outputs, say
    from searchrl.files import write_text
    from searchrl.fitting.documents import table_of
    from searchrl.fitting.sources import read_source

    folder = config.output_dir
    check_outputs(*(("--output-dir", folder / name) for name in ("df.csv", "df_small.csv", "dataset_dict.json")))
    rows = read_source(
        config.dataset_name,
        text_column=config.text_column,
        config=config.dataset_config,
        split=config.split,
        sample=config.n_sample,
        seed=config.random_seed,
        stream=config.stream,
    )
    order = rng(config.random_seed, "process_data").permutation(len(rows))[: config.n_sample]
    table = table_of([rows[i] for i in order])
    _save_dataset_dict(table, folder)
    write_text(folder / "df_small.csv", table[:SMALL].to_csv(index=False, lineterminator="\n"))
    write_text(folder / "df.csv", table.to_csv(index=False, lineterminator="\n"))
    say(f"{len(table)} of {len(rows)} documents: {folder / 'df.csv'}")


def _save_dataset_dict(table: object, folder: Path) -> None:
    """Write the table so that ``datasets.load_from_disk(folder)`` gives it back."""
    import shutil
    import tempfile

    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix=".dataset.", dir=folder) as place:
        DatasetDict({"train": Dataset.from_pandas(table)}).save_to_disk(place)
        shutil.rmtree(folder / "train", ignore_errors=True)
        (Path(place) / "train").replace(folder / "train")
        (Path(place) / "dataset_dict.json").replace(folder / "dataset_dict.json")


if __name__ == "__main__":
    main()
