"""TREC run and qrels files, the formats that trec_eval and every other evaluation tool reads.

Run: ``query Q0 document rank score tag``. Qrels: ``query 0 document grade``. Columns are separated by whitespace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from searchrl.data.beir import add_judgment
from searchrl.data.records import at, checked_id, numbered_lines
from searchrl.errors import DataError
from searchrl.files import write_text


@dataclass(frozen=True)
class TrecRun:
    """A ranking file in memory: query id -> (document id, score), best first.

    ``tag`` names the system that made it. Scores do not increase along a ranking.
    """

    tag: str
    rankings: Mapping[str, Sequence[tuple[str, float]]]

    def untied(self) -> dict[str, dict[str, float]]:
        """Query id -> document id -> score, as ``write_trec_run`` writes them and ``pytrec_eval`` takes them.

        trec_eval keeps scores as float32 and breaks ties by document id, whatever the order in the file. So equal
        scores are pushed apart, each to the next smaller float32, and the order stays what it was. Raises
        ``DataError`` for a score that is not finite or increases, a repeated document, an id with whitespace.
        """
        return {query_id: self._untied(query_id) for query_id in self.rankings}

    def _untied(self, query_id: str) -> dict[str, float]:
        place = f"run {self.tag!r}, query {checked_id(query_id, 'query id', f'run {self.tag!r}')!r}"
        scores: dict[str, float] = {}
        before = last = np.float32(np.inf)
        for document_id, score in self.rankings[query_id]:
            single = _float32(score)
            if not np.isfinite(single) or single > before:
                raise DataError(f"{place}: the score {score} of document {document_id!r} is not finite, or increases")
            if checked_id(document_id, "document id", place) in scores:
                raise DataError(f"{place}: document {document_id!r} is ranked twice")
            before, last = single, min(single, np.nextafter(last, np.float32(-np.inf), dtype=np.float32))
            scores[document_id] = float(last)
        return scores


def write_trec_run(path: Path, run: TrecRun) -> None:
    """Write a run atomically, its scores strictly decreasing. A query without documents has no line to appear in."""
    tag = checked_id(run.tag, "the tag", f"{path}: run")
    lines = [
        f"{query_id} Q0 {document_id} {rank} {score:.9g} {tag}\n"  # nine digits give the same float32 when read
        for query_id, scores in run.untied().items()
        for rank, (document_id, score) in enumerate(scores.items(), start=1)
    ]
    write_text(path, "".join(lines))


def read_trec_run(path: Path) -> TrecRun:
    """Read a run as trec_eval would: by score, ties by document id, descending, whatever the ranks say.

    A file without lines is a run that found nothing, tagged with the file's name. Raises ``DataError``, with file and
    line, where that is not a run of one tag.
    """
    rankings: dict[str, dict[str, float]] = {}
    first = None
    for place, (query_id, _, document_id, rank, score, tag) in _rows(path, 6):
        if not rank.lstrip("-").isdecimal():
            raise DataError(f"{place}: the rank {rank!r} is not an integer")
        ranking = rankings.setdefault(query_id, {})
        if document_id in ranking:
            raise DataError(f"{place}: document {document_id!r} is ranked twice for query {query_id!r}")
        ranking[document_id] = _score(score, place)
        first = first or tag
        if tag != first:
            raise DataError(f"{place}: the tag {tag!r} differs from {first!r}; one file holds one run")
    best_first = {
        query_id: sorted(ranking.items(), key=lambda item: (item[1], item[0]), reverse=True)
        for query_id, ranking in rankings.items()
    }
    return TrecRun(first or path.stem, best_first)


def read_trec_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read query id -> document id -> grade. Raises ``DataError``, with file and line, where that is not possible."""
    qrels: dict[str, dict[str, int]] = {}
    for place, (query_id, _, document_id, grade) in _rows(path, 4):
        add_judgment(qrels, query_id, document_id, grade, place)
    if not qrels:
        raise DataError(f"{path}: holds no judgments")
    return qrels


def _rows(path: Path, columns: int) -> Iterator[tuple[str, list[str]]]:
    """Yield (place for messages, columns) of every line."""
    for number, line in numbered_lines(path):
        row = line.split()
        if len(row) != columns:
            raise DataError(f"{at(path, number)}: {columns} columns are expected, found {len(row)}: {line[:60]!r}")
        yield at(path, number), row


def _score(text: str, place: str) -> float:
    """A score in the precision that trec_eval compares it in."""
    try:
        score = _float32(float(text))
    except ValueError as error:
        raise DataError(f"{place}: the score {text!r} is not a number") from error
    if not np.isfinite(score):
        raise DataError(f"{place}: the score {text!r} is not finite in float32")
    return float(score)


def _float32(value: float) -> np.float32:
    single: np.float32
    with np.errstate(over="ignore"):  # too large becomes inf, which the caller reports
        single = np.float32(value)
    return single
