"""Documents from wherever they are (text files, tables, BEIR folders, data sets on the Hugging Face hub), and the
table that all stages share: ``df.csv``, a row a document, whose number is its ``df_id``.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from searchrl.data.dataset import Corpus
from searchrl.data.records import checked_text, plain_or_gz, read_bytes, read_jsonl
from searchrl.data.records import read_records as read_beir_records
from searchrl.device import rng
from searchrl.errors import ConfigError, DataError, DownloadError, reason
from searchrl.evaluation.stages import check_outputs
from searchrl.extras import install_command
from searchrl.files import beside, user_path, write_text
from searchrl.fitting.records import read_records
from searchrl.fitting.settings import ProcessDataConfig

logger = logging.getLogger(__name__)

COLUMNS = ("id", "title", "text")
"""Of ``df.csv``; another table needs only the column that holds the text."""
SMALL = 10_000
"""Rows of ``df_small.csv`` at most."""

Row = tuple[str, str, str]
"""id, title, text."""

TEXT_FILES = (".txt", ".md", ".rst", ".html", ".htm", ".pdf")
TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
STREAM_BUFFER = 10_000
"""Rows held while a stream is shuffled: a row may move about so far."""


def process_data(config: ProcessDataConfig, say: Callable[[str], None]) -> None:
    """Write a source's documents as tables, shuffled. Raises DataError on half a surrogate pair, which no file can
    hold.
    """
    folder = config.output_dir
    check_outputs(*(("output_dir", folder / name) for name in ("df.csv", "df_small.csv", "dataset_dict.json")))
    import pandas as pd  # type: ignore[import-untyped,unused-ignore]

    rows = read_source(config)
    order = rng(config.random_seed, "process_data").permutation(len(rows))[: config.n_sample]
    chosen = [rows[i] for i in order]
    for number, row in enumerate(chosen):
        for name, value in zip(COLUMNS, row, strict=True):
            checked_text(value, repr(name), f"document {number}")
    table: Any = pd.DataFrame(chosen, columns=list(COLUMNS))
    _save_dataset_dict(table, folder)
    write_text(folder / "df_small.csv", table[:SMALL].to_csv(index=False, lineterminator="\n"))
    write_text(folder / "df.csv", table.to_csv(index=False, lineterminator="\n"))
    say(f"{len(table)} of {len(rows)} documents: {folder / 'df.csv'}")


def _save_dataset_dict(table: object, folder: Path) -> None:
    """Write the table so that ``datasets.load_from_disk(folder)`` gives it back."""
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    with beside(folder / "dataset") as place:
        DatasetDict({"train": Dataset.from_pandas(table)}).save_to_disk(place)
        shutil.rmtree(folder / "train", ignore_errors=True)
        (place / "train").replace(folder / "train")
        (place / "dataset_dict.json").replace(folder / "dataset_dict.json")


def read_documents(path: Path, text_column: str = "text") -> Corpus:
    """Read a CSV file as a corpus: ids are row numbers, in the file's order; a ``title`` column is the title.

    Raises DataError naming the file where it is missing, damaged, empty, or lacks the column.
    """
    table = read_table(path, ",")
    if text_column not in table.columns:
        raise DataError(f"{path}: no column {text_column!r}; it has {', '.join(map(str, table.columns))}")
    if not len(table):
        raise DataError(f"{path}: holds no documents")
    titles = table["title"] if "title" in table.columns and text_column != "title" else [""] * len(table)
    return Corpus([str(row) for row in range(len(table))], list(titles), list(table[text_column]))


def read_table(path: Path, separator: str) -> Any:
    """A CSV or TSV file as a pandas table of texts. Raises DataError naming the file."""
    import pandas as pd  # type: ignore[import-untyped,unused-ignore]

    try:
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path}: not a table of comma- or tab-separated UTF-8 text ({error})") from error


def read_source(config: ProcessDataConfig) -> list[Row]:
    """All documents of a source in its own order; of a hub data set that is streamed, some of its beginning.

    Raises DataError where there is nothing, ConfigError on a name that is no source, DownloadError where the hub does
    not answer.
    """
    name, text_column = config.dataset_name, config.text_column
    path = user_path(name)
    if path.is_dir():
        rows = _from_folder(path, text_column)
    elif path.is_file():
        rows = read_file(path, text_column, path.parent)
    elif "/" in name and not name.startswith((".", "/", "~")) and name.count("/") == 1:
        rows = _from_hub(config)
    else:
        from searchrl.data.load import load_dataset

        corpus = load_dataset(name).corpus
        rows = list(zip(corpus.ids, corpus.titles, corpus.texts, strict=True))
    kept = [row for row in rows if row[1].strip() or row[2].strip()]
    if not kept:
        raise DataError(f"{name}: no document has any text")
    return kept


def _from_folder(folder: Path, text_column: str) -> list[Row]:
    if (corpus := plain_or_gz(folder / "corpus.jsonl")).is_file():
        records = read_beir_records(corpus)
        return [(i, record["title"], record["text"]) for i, record in records.items()]
    return [row for path in files_of(folder) for row in read_file(path, text_column, folder)]


def files_of(folder: Path) -> list[Path]:
    """The files of a folder, and of those in it, that may hold documents. Raises DataError where there are none."""
    named = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (*TEXT_FILES, *TABLES)]
    files = [path for path in named if path.is_file() and not _hidden(path.relative_to(folder))]
    if left := len(named) - len(files):
        logger.warning("%s: %d hidden files, or folders named like files, are left out", folder, left)
    if not files:
        kinds = ", ".join((*TEXT_FILES, *TABLES))
        raise DataError(f"{folder}: no documents: a BEIR folder, or files of the kinds {kinds}, are expected")
    return files


def read_file(path: Path, text_column: str, root: Path) -> list[Row]:
    """The documents of one file: one of a text, one a row of a table. Raises DataError naming the file."""
    name = path.relative_to(root).as_posix()
    if path.suffix.lower() in TABLES:
        return _rows(_records(path), text_column, name, str(path))
    if path.suffix.lower() == ".pdf":
        return [(name, "", _pdf(path))]
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}); convert it, or move it out of the folder") from error
    if path.suffix.lower() in (".html", ".htm"):
        return [(name, *_html(text))]
    return [(name, "", text)]


class _Visible(HTMLParser):
    """Collects the title of a page, and what its reader sees."""

    UNSEEN = frozenset({"script", "style", "template", "noscript", "svg"})

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.title = ""
        self._within: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in self.UNSEEN or tag == "title":
            self._within.append(tag)
        elif tag not in ("a", "b", "i", "em", "strong", "span", "code", "sub", "sup"):
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._within:  # with whatever was not closed in it
            del self._within[self._within.index(tag) :]

    def handle_data(self, data: str) -> None:
        if self._within[-1:] == ["title"]:
            self.title += data
        elif not self._within:
            self.parts.append(data)


def _html(text: str) -> tuple[str, str]:
    page = _Visible()
    page.feed(text)
    page.close()
    lines = [" ".join(line.split()) for line in "".join(page.parts).splitlines()]
    return " ".join(page.title.split()), "\n".join(line for line in lines if line)


def _pdf(path: Path) -> str:
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError as error:
        raise DataError(f"{path}: PDF files need a package: {install_command('documents')}") from error
    try:
        return "\n".join(page.extract_text() for page in PdfReader(path).pages)
    except (PyPdfError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as PDF ({reason(error)})") from error


def _hidden(path: Path) -> bool:
    """Whether a file, or a folder it is in, is one that people do not see: ``.git``, ``._shadows`` of macOS."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _rows(records: Iterable[dict[str, Any]], text_column: str, name: str, place: str) -> list[Row]:
    rows = []
    lacking: Counter[str] = Counter()
    for number, record in enumerate(records):
        if text_column not in record:
            raise DataError(
                f"{place}, row {number + 1}: no field {text_column!r}; found {', '.join(map(str, record))}; "
                "name another as text_column"
            )
        where = f"{place}, row {number + 1}"
        id_column = next((key for key in ("_id", "id") if key in record), None)
        row_id = f"{name}:{number}" if id_column is None else _cell(_whole(record[id_column]), where, id_column)
        text = _cell(record[text_column], where, text_column)
        if row_id is None or text is None:
            lacking["id" if row_id is None else text_column] += 1
            continue
        rows.append((row_id or f"{name}:{number}", _cell(record.get("title"), where, "title") or "", text))
    if lacking:
        said = ", ".join(f"{count} without {column}" for column, count in lacking.items())
        logger.warning("%s: %d rows are left out: %s", place, lacking.total(), said)
    return rows


def _whole(value: Any) -> Any:
    """An id that became 4.0 because another row has none is 4."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _cell(value: Any, place: str, column: str) -> str | None:
    """A table's cell as text; None where it is missing (null, NaN). Raises DataError on a list or an object."""
    import pandas as pd

    if isinstance(value, str):
        return value
    if not pd.api.types.is_scalar(value):
        raise DataError(f"{place}: {column!r} is not a text but {value!r:.60}; name another as text_column")
    return None if pd.isna(value) else str(value)


def _from_hub(config: ProcessDataConfig) -> list[Row]:
    from datasets import load_dataset

    name, sample = config.dataset_name, config.n_sample
    if config.stream and sample is None:
        raise ConfigError("stream needs n_sample: how much of the stream to keep")
    try:
        found = load_dataset(name, config.dataset_config, split=config.split, streaming=config.stream)
        if config.stream:
            found = found.shuffle(seed=config.random_seed, buffer_size=STREAM_BUFFER).take(sample)
        return _rows(iter(found), config.text_column, name, name)
    except DataError:
        raise
    except Exception as error:  # the hub and its data sets fail in as many ways as there are formats
        raise DownloadError(
            f"{name}: neither a file or folder here, nor available on the Hugging Face hub ({reason(error)})"
        ) from error


def _records(path: Path) -> list[dict[str, Any]]:
    """The records of a table."""
    suffix = path.suffix.lower()
    if suffix in (".json", ".jsonl"):
        return [record for _, record in (read_records if suffix == ".json" else read_jsonl)(path)]
    if suffix == ".parquet":
        import pandas as pd  # type: ignore[import-untyped,unused-ignore]

        try:
            table: Any = pd.read_parquet(path, dtype_backend="numpy_nullable")  # whole numbers stay whole
        except (OSError, ValueError, ImportError) as error:
            raise DataError(f"{path}: not a Parquet file ({reason(error)})") from error
    else:
        table = read_table(path, "\t" if suffix == ".tsv" else ",")
    return list(table.to_dict("records"))
