"""Queries that a language model writes about documents: what is asked, and what of the answers is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from searchrl.data.dataset import Corpus
from searchrl.fitting.json_records import read_records, text_field
from searchrl.models.language_model import ANSWER, LanguageModel
from searchrl.queries.cleaning import clean as cleaned_question

QueryKind = Literal["titles", "questions", "keywords"]

OPENING = "What"

PROMPTS: Mapping[QueryKind, str] = {
    "titles": f"{{document}}\n\nGive the text above a short title.{ANSWER}Title:",
    "questions": (
        f"Read this passage and write a question that it answers.\n\nPassage: {{document}}{ANSWER}Question: {OPENING}"
    ),
    "keywords": f"{{document}}\n\nName the subject of the text above in a few words, with commas.{ANSWER}Keywords:",
}
"""Each begins the answer: the smallest models otherwise talk about the task instead of doing it."""

DOCUMENT_WORDS = 80
CHARACTERS_PER_WORD = 8
"""A document is shown up to so many words, and characters a word."""

LEAST_DOCUMENT_WORDS = 5
"""Shorter documents are not asked about."""
MAX_NEW_TOKENS = 40
MOST_WORDS = 25
MOST_KEYWORDS = 6
TEMPERATURE = 0.8
"""Of all but the first query of a kind, which is written greedily."""

_LABEL = re.compile(
    r"^(?:[-•>#]+\s*|\d{1,2}[.)]\s+)?\**(?:(?:the\s+)?(?:title|question|keyword|answer)s?\**\s*:)?\**\s*", re.I
)
_ABOUT_THE_TASK = re.compile(r"\b(?:the|this) (?:passage|question|text)\b", re.I)
"""What the smallest models say instead of asking: "What is the text about?"."""
LEAST_QUESTION_WORDS = 3
_QUOTES = "\"'`“”‘’«»*_ "


@dataclass(frozen=True)
class QueryRec:
    """One query, and the document (row of ``df.csv``) that it was written from, where one was."""

    query: str
    df_id: int | None
    kind: str

    def record(self) -> dict[str, Any]:
        """As the files have it."""
        return {"query": self.query, "df_id": self.df_id, "query-type": self.kind}


def write_queries(
    corpus: Corpus, rows: Sequence[int], kinds: Sequence[QueryKind], per_document: int, lm: LanguageModel, seed: int
) -> tuple[list[QueryRec], int]:
    """Ask for ``per_document`` queries of each kind about each of the documents ``rows``.

    Returns what is worth keeping, in the order of the documents, and how many answers there were.
    """
    found: dict[int, list[QueryRec]] = {row: [] for row in rows}
    asked = 0
    for kind in kinds:
        prompts = [PROMPTS[kind].format(document=shown(corpus.full_text(row))) for row in rows]
        for number in range(per_document):
            temperature = TEMPERATURE if number else 0.0
            answers = lm.generate(prompts, max_new_tokens=MAX_NEW_TOKENS, temperature=temperature, seed=seed + number)
            asked += len(answers)
            for row, answer in zip(rows, answers, strict=True):
                query = clean(answer, kind)
                if query and all(query.lower() != other.query.lower() for other in found[row]):
                    found[row].append(QueryRec(query, row, kind))
    return [rec for recs in found.values() for rec in recs], asked


def clean(answer: str, kind: QueryKind) -> str:
    """The query in an answer, from its first line that says something; empty where there is none to be used.

    >>> clean('is a wing?" It is', "questions")
    'What is a wing?'
    """
    if kind == "questions":
        text = cleaned_question(answer, OPENING)
        if not text.endswith("?") or _ABOUT_THE_TASK.search(text):
            return ""
        return text if LEAST_QUESTION_WORDS <= len(re.findall(r"\w+", text)) <= MOST_WORDS else ""
    line = next((" ".join(line.split()) for line in answer.splitlines() if line.strip(_QUOTES + "-#>:.")), "")
    text = _LABEL.sub("", line.lstrip(_QUOTES), count=1).strip(_QUOTES)
    if kind == "keywords":
        words = [part.strip(_QUOTES + ".") for part in re.split(r"[,;|]", text)]
        text = ", ".join(list(dict.fromkeys(word for word in words if word))[:MOST_KEYWORDS])
    else:
        text = text.rstrip(".")
    return text if 1 <= len(re.findall(r"\w+", text)) <= MOST_WORDS else ""


def shown(document: str) -> str:
    """As much of a document as the model is shown."""
    return " ".join(document.split()[:DOCUMENT_WORDS])[: DOCUMENT_WORDS * CHARACTERS_PER_WORD]


def rows_to_ask(corpus: Corpus) -> list[int]:
    """Rows of the documents that have words enough to be asked about."""
    return [i for i in range(len(corpus)) if len(corpus.full_text(i).split()) >= LEAST_DOCUMENT_WORDS]


def read_query_recs(path: Path, rows: int | None = None) -> list[QueryRec]:
    """Read ``query_recs.json``, or any array of objects with a ``query``.

    rows: documents there are; None where ids are not to be checked. Raises DataError naming file and record.
    """
    from searchrl.fitting.json_records import number_field

    recs = []
    for place, record in read_records(path):
        known = record.get("df_id") is not None
        df_id = number_field(record, "df_id", place, 2**31 if rows is None else rows) if known else None
        recs.append(QueryRec(text_field(record, "query", place), df_id, str(record.get("query-type", ""))))
    return recs
