"""From a language model's answer to the query in it, and why a question is rejected: first of all by its words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal

from searchrl.text import CHARACTERS_PER_WORD, STOPS, cut_question, is_question, size, unspaced, words

QueryKind = Literal["titles", "questions", "keywords"]

LEAST_WORDS, MOST_WORDS = 3, 32
LEAST_TERMS = 2
ROUND_TRIP = 20
"""Documents of a dense search among which every source must be."""
OTHERS = 3
"""Documents that the judge compares the sources with."""

Reason = Literal[
    "no question",
    "length",
    "echo",
    "about the text",
    "copied",
    "repeats itself",
    "duplicate",
    "vague",
    "not found",
    "found by its words",
    "judged lower",
    "surplus",
]

REASONS: Mapping[Reason, str] = {
    "no question": "has no words or no question mark",
    "length": f"shorter than {LEAST_WORDS} words or longer than {MOST_WORDS}",
    "echo": "repeats the prompt's wording",
    "about the text": "speaks of the text or of the question instead of asking",
    "copied": "is mostly words in a row from the document",
    "repeats itself": "says the same three words twice",
    "duplicate": "was asked before, or nearly so of the same document",
    "vague": f"has fewer than {LEAST_TERMS} words that BM25 can search the corpus for",
    "not found": f"a dense search does not return its documents among the first {ROUND_TRIP}",
    "found by its words": "adversarial, but BM25 puts its document first",
    "judged lower": f"the judge likes one of {OTHERS} other documents at the top better",
    "surplus": "good, but there were enough",
}
"""In the order of the checks."""

COPIED_WORDS = 8
"""So many words in a row from a document are copied; of a shorter question, all."""
COPIED_SHARE = 0.75
"""A question of which so much is copied is a sentence of the document; less is what it asks about."""
ECHO_WORDS = 4
"""So many words in a row from the prompt are an echo; of a shorter question, all."""
REPEATED_WORDS = 3
ALIKE = 0.7
"""Two questions that share so much of their words (Jaccard) are one."""
MOST_QUERY_WORDS = 25
"""Of a title, question or keywords that are written for fitting."""
MOST_KEYWORDS = 6
OPENING = "What"
"""How the prompt for such a question has it begin."""

_LABEL = re.compile(
    r"""^(?:[-*•>#]\s+|\d{1,2}[.)]\s+)?  # list mark
    (?:["'*]*(?:(?:(?:the\s+)?(?:question|query|answer)(?:\s+is)?\s*:)  # label
    |(?:the|a)\s+\w+\s+(?:asks|wonders|wants\s+to\s+know)\s*[:,]?))?\s*  # who asks""",
    re.IGNORECASE | re.VERBOSE,
)
_BEGINS = re.compile(r"(?:how|what|why|which|who|whose|when|where|is|are|do|does|can|the|a|in|if)\b", re.IGNORECASE)
"""Begins a question of its own, when it is capitalised."""
_HOW_TO = re.compile(r"how to\b[^?!]*", re.IGNORECASE)
_QUOTES = "\"'`“”‘’«»*"
_THE = r"\b(?:this|these|the|that|your|two|present)(?: given| following| above| previous| two| first| second)? "
_SELF = re.compile(
    rf"{_THE}(?:texts?|documents?|articles?|paragraphs?|excerpts?|questions?|answers?)\b"
    r"|\b(?:students?|i am|i'm|you'd|your|as an ai)\b",
    re.IGNORECASE,
)
_WRITING = re.compile(
    rf"{_THE}(?:passages?|papers?|stud(?:y|ies)|notes?|abstracts?|discussions?|authors?)\b", re.IGNORECASE
)
"""What documents call themselves; a question that does, too, asks about nothing."""
_ABOUT_THE_TASK = re.compile(r"\b(?:the|this) (?:passage|question|text)\b", re.IGNORECASE)
"""What the smallest models say instead of asking: "What is the text about?"."""
_TITLE_LABEL = re.compile(
    r"^(?:[-•>#]+\s*|\d{1,2}[.)]\s+)?\**(?:(?:the\s+)?(?:title|question|keyword|answer)s?\**\s*:)?\**\s*", re.IGNORECASE
)
_MARKS = _QUOTES + "_ "


def clean(answer: str, opening: str = "") -> str:
    """The question in a model's answer: of its first line that says something, what ends with the first question mark.

    A model goes on from the answer's first word, ``opening``, which is then put back; ``How to ...`` gets the question
    mark that it lacks. In another script than Latin, nothing is put before a question, which has its own first word.

    >>> clean('\\n 1. Question: "What does  rset do?" It resets the session.')
    'What does rset do?'
    """
    for line in answer.splitlines():
        text = " ".join(_LABEL.sub("", line.strip(), count=1).split())
        question, mark = cut_question(text)
        question = _unquoted(question)
        latin = question[:1].isascii() or "LATIN" in unicodedata.name(question[0], "")
        if opening and question and latin and not (question[0].isupper() and _BEGINS.match(question)):
            question = f"{opening} {question}"
        if not mark and _HOW_TO.fullmatch(question):
            question, mark = question.rstrip(" " + STOPS + _QUOTES), "?"
        if text := (question + mark).strip():
            return text
    return ""


def clean_query(answer: str, kind: QueryKind) -> str:
    """The title, question or keywords in an answer, from its first line that says something; empty where there are none
    to be used.

    >>> clean_query('is a wing?" It is', "questions")
    'What is a wing?'
    """
    if kind == "questions":
        text = clean(answer, OPENING)
        if not is_question(text) or _ABOUT_THE_TASK.search(text):
            return ""
        return text if LEAST_WORDS <= size(text) <= MOST_QUERY_WORDS else ""
    line = next((" ".join(line.split()) for line in answer.splitlines() if line.strip(_MARKS + "-#>:.")), "")
    text = _TITLE_LABEL.sub("", line.lstrip(_MARKS), count=1).strip(_MARKS)
    if kind == "keywords":
        parts = [part.strip(_MARKS + ".") for part in re.split(r"[,;|，、；،؛]", text)]
        text = ", ".join(list(dict.fromkeys(part for part in parts if part))[:MOST_KEYWORDS])
    else:
        text = text.rstrip(STOPS)
    return text if 1 <= size(text) <= MOST_QUERY_WORDS else ""


def _unquoted(text: str) -> str:
    """A text without the quotes around it, but with those around its first or last words."""
    bare = text.strip(_QUOTES + " ")
    for quote in '"`':
        if bare.count(quote) % 2 and quote in (text.strip()[0], text.strip()[-1]):
            at = bare.rindex(quote)
            opens = at == 0 or bare[at - 1] in " ("
            bare = bare + quote if opens else quote + bare
    return bare


def check(question: str, documents: Sequence[str], template: str) -> Reason | None:
    """Say why a cleaned question about ``documents`` cannot be kept, judging by its words alone; None where it can."""
    asked = words(question)
    sources = [words(document) for document in documents]
    if not asked or not is_question(question):
        return "no question"
    if not LEAST_WORDS <= size(question) <= MOST_WORDS:
        return "length"
    each = CHARACTERS_PER_WORD if unspaced(question) else 1

    def in_sources(run: Sequence[str]) -> bool:
        return any(set(_runs(run, len(run))) & set(_runs(source, len(run))) for source in sources)

    length = min(ECHO_WORDS * each, len(asked))
    echoes = set(_runs(asked, length)) & set(_runs(words(template), length))
    if any(not in_sources(run) for run in echoes):
        return "echo"
    if _WRITING.search(question) or any(not in_sources(words(about[0])) for about in _SELF.finditer(question)):
        return "about the text"
    length = min(COPIED_WORDS * each, len(asked))
    copied = {i + k for i, run in enumerate(_runs(asked, length)) if in_sources(run) for k in range(length)}
    if len(copied) >= COPIED_SHARE * len(asked):
        return "copied"
    runs = _runs(asked, REPEATED_WORDS * each)
    return "repeats itself" if len(set(runs)) < len(runs) else None


def alike(one: str, other: str) -> bool:
    """Whether two questions have nearly the same words."""
    first, second = set(words(one)), set(words(other))
    return len(first & second) > ALIKE * len(first | second)


def _runs(sequence: Sequence[str], length: int) -> list[tuple[str, ...]]:
    """Every stretch of that many words in a row."""
    return [tuple(sequence[i : i + length]) for i in range(len(sequence) - length + 1)]
