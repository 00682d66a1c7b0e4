"""The table of documents that all stages share: ``df.csv``, a row a document, whose number is its ``df_id``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from searchrl.data.dataset import Corpus
from searchrl.data.records import checked_text
from searchrl.errors import DataError

COLUMNS = ("id", "title", "text")
"""Of ``df.csv``; another table needs only the column that holds the text."""


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


def table_of(rows: Sequence[tuple[str, str, str]]) -> Any:
    """A pandas table of (id, title, text). Raises DataError on half a surrogate pair, which no file can hold."""
    import pandas as pd  # type: ignore[import-untyped,unused-ignore]

    for number, row in enumerate(rows):
        for name, value in zip(COLUMNS, row, strict=True):
            checked_text(value, repr(name), f"document {number}")
    return pd.DataFrame(rows, columns=list(COLUMNS))
