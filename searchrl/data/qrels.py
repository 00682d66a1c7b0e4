"""Human judgments in the BEIR layout: ``query-id <tab> corpus-id <tab> score``, one header line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from searchrl.data.dataset import Qrels
from searchrl.data.lines import at, checked_id, numbered_lines
from searchrl.errors import DataError
from searchrl.files import write_text

HEADER = ("query-id", "corpus-id", "score")
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read query id -> document id -> grade, in file order.

    A judgment given twice with the same grade is fine. Raises ``DataError`` that names file and line: a wrong header,
    not three columns, a grade that is not an integer, two grades for one pair; and if there are no judgments.
    """
    qrels: dict[str, dict[str, int]] = {}
    headed = False
    for number, line in numbered_lines(path):
        place = at(path, number)
        row = _columns(line, place)
        if not headed:
            if tuple(name.strip().lower().replace("_", "-") for name in row) != HEADER:
                raise DataError(f"{place}: the header must be {'<tab>'.join(HEADER)}, not {line[:60]!r}")
            headed = True
            continue
        if len(row) != len(HEADER):
            raise DataError(f"{place}: {len(HEADER)} columns separated by tabs are expected, found {len(row)}")
        query_id = checked_id(row[0].strip(), "query-id", place)
        document_id = checked_id(row[1].strip(), "corpus-id", place)
        add_judgment(qrels, query_id, document_id, row[2].strip(), place)
    if not qrels:
        raise DataError(f"{path}: holds no judgments; fill it, or remove it if this split does not exist")
    return qrels


def add_judgment(qrels: dict[str, dict[str, int]], query_id: str, document_id: str, grade: str, place: str) -> None:
    """Enter one judgment as it was read. Raises ``DataError`` if it is not an integer or contradicts an earlier one."""
    if not _INTEGER.fullmatch(grade):
        raise DataError(f"{place}: the grade {grade!r} is not an integer")
    if (before := qrels.setdefault(query_id, {}).setdefault(document_id, int(grade))) != int(grade):
        raise DataError(f"{place}: query {query_id!r}, document {document_id!r} is judged {grade}, before {before}")


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Write judgments atomically, so that ``read_qrels`` gives them back."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows((q, d, grade) for q, judged in qrels.items() for d, grade in judged.items())
    write_text(path, buffer.getvalue())


@dataclass(frozen=True)
class KnownQrels:
    """Judgments that name known queries and documents, and how many did not."""

    qrels: dict[str, dict[str, int]]
    total: int
    unknown_query: int
    unknown_document: int
    queries_lost: int
    """Known queries that had judgments, but none of a known document."""

    @property
    def note(self) -> str:
        """What was dropped, in words; empty if nothing was."""
        counts = {
            "queries that do not exist": self.unknown_query,
            "documents that are not in the corpus": self.unknown_document,
        }
        dropped = " and ".join(f"{n} name {what}" for what, n in counts.items() if n)
        lost = f", and with them {self.queries_lost} queries that have no other" if self.queries_lost else ""
        return f"of {self.total} judgments {dropped}: dropped{lost}" if dropped else ""


def keep_known(qrels: Qrels, queries: Container[str], documents: Container[str]) -> KnownQrels:
    """Drop, and count, judgments that name a query or a document that is not there."""
    known: dict[str, dict[str, int]] = {}
    unknown_query = unknown_document = queries_lost = 0
    for query_id, judged in qrels.items():
        if query_id not in queries:
            unknown_query += len(judged)
            continue
        kept = {d: grade for d, grade in judged.items() if d in documents}
        unknown_document += len(judged) - len(kept)
        if kept:
            known[query_id] = kept
        else:
            queries_lost += 1
    return KnownQrels(known, sum(map(len, qrels.values())), unknown_query, unknown_document, queries_lost)


def _columns(line: str, place: str) -> list[str]:
    """Split one line as beir does, quotes included; a quote left open stays this line's own fault."""
    try:
        return next(csv.reader([line], delimiter="\t"))
    except csv.Error as error:
        raise DataError(f"{place}: not tab-separated text ({error})") from error
