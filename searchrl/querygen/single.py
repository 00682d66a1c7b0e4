"""Questions that one document answers: asked of a language model, cleaned, kept where a search finds the document.

The filter is round-trip consistency (Alberti et al. 2019; for retrieval, Dai et al. 2022, Promptagator): a question
that does not lead back to its source teaches a searcher nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.data.query_bank import BankQuery
from searchrl.device import rng
from searchrl.errors import DataError
from searchrl.models.language_model import LanguageModel
from searchrl.retrieval.retriever import Retriever
from searchrl.reward.qrels import Judgments

Reason = Literal["no question", "about the text", "echo", "copied", "length", "duplicate", "not found"]
REASONS: Mapping[Reason, str] = {
    "no question": "has no words or no question mark",
    "length": "shorter than 3 words or longer than 25",
    "echo": "repeats the prompt's wording",
    "about the text": "speaks of the text or of the question instead of asking",
    "copied": "is a sentence of the document",
    "duplicate": "was asked before",
    "not found": "a dense search does not return its document among the first 20",
}
"""Why a question is rejected, in the order of the checks."""

LEAST_WORDS, MOST_WORDS = 3, 25
ROUND_TRIP = 20
"""Documents of a dense search among which the source must be."""
COPIED_WORDS = 8
"""So many words in a row from the document are a copy; of a shorter question, all."""
ECHO_WORDS = 4
"""So many words in a row from the prompt are an echo; of a shorter question, all."""

DOCUMENT_WORDS = 80
LEAST_DOCUMENT_WORDS = 5
"""A document is shown to the model up to the first limit, and not at all below the second."""
CHARACTERS_PER_WORD = 8
"""It is also cut to this many characters a word, so that one unbroken string cannot fill the model."""
MAX_NEW_TOKENS = 40

_LABEL = re.compile(r"^(?:[-*•>#]\s+|\d{1,2}[.)]\s+)?(?:(?:the\s+)?(?:question|query|answer)(?:\s+is)?\s*:)?\s*", re.I)
_QUOTES = "\"'`“”‘’«»*"
_SELF = re.compile(
    r"\b(?:(?:this|the|that|your)(?: given| following| above)? "
    r"(?:text|passage|document|article|paragraph|excerpt|question|answer)|i am|i'm|you'd|your|as an ai)\b",
    re.I,
)


@dataclass(frozen=True)
class SingleQueries:
    """The questions that were kept, and how many were not, by reason."""

    queries: Sequence[BankQuery]
    asked: int
    """Documents that the language model was asked about."""
    rejected: Mapping[Reason, int]


def choose_documents(corpus: Corpus, count: int, seed: int) -> list[int]:
    """A random sample of ``count`` documents (all, if there are fewer) that have words enough to be asked about.

    The sample for a larger count begins with that for a smaller one. Raises DataError where no document has words
    enough.
    """
    order = rng(seed, "querygen", "single").permutation(len(corpus))
    chosen = [int(i) for i in order if len(corpus.full_text(int(i)).split()) >= LEAST_DOCUMENT_WORDS]
    if not chosen:
        raise DataError(f"no document has {LEAST_DOCUMENT_WORDS} words or more; there is nothing to ask about")
    return chosen[:count]


def generate_single(
    corpus: Corpus, documents: Sequence[int], lm: LanguageModel, template: str, retriever: Retriever
) -> SingleQueries:
    """Ask for one question about each document, greedily and in one batch, and keep those that pass every check.

    ``template`` holds ``{document}``. A query's id is ``single-`` and its document's; its difficulty is the nDCG@10 of
    one plain dense search with the source as the only relevant document, so 1 is easiest.
    """
    prompts = [template.format(document=shown(corpus.full_text(i))) for i in documents]
    answers = lm.generate(prompts, max_new_tokens=MAX_NEW_TOKENS)
    rejected: Counter[Reason] = Counter()
    drafts: dict[tuple[str, ...], tuple[int, str]] = {}
    for document, answer in zip(documents, answers, strict=True):
        question = clean(answer)
        reason = check(question, corpus.full_text(document), template)
        if reason is None and tuple(_words(question)) in drafts:
            reason = "duplicate"
        if reason is None:
            drafts[tuple(_words(question))] = document, question
        else:
            rejected[reason] += 1
    kept = _round_trip(corpus, list(drafts.values()), retriever)
    rejected["not found"] = len(drafts) - len(kept)
    return SingleQueries(kept, len(documents), {reason: rejected[reason] for reason in REASONS})


def clean(answer: str) -> str:
    """The question in a model's answer: of its first line that says something, what ends with the first question mark.

    >>> clean('\\n 1. Question: "What does  rset do?" It resets the session.')
    'What does rset do?'
    """
    for line in answer.splitlines():
        text = " ".join(_LABEL.sub("", line.strip().lstrip(_QUOTES), count=1).split())
        question, mark, _ = text.partition("?")
        if text := (question.strip(_QUOTES + " ") + mark).strip():
            return text
    return ""


def check(question: str, document: str, template: str) -> Reason | None:
    """Say why a cleaned question cannot be kept, judging by its words alone; None where it can."""
    words = _words(question)
    if not words or not question.endswith("?"):
        return "no question"
    if not LEAST_WORDS <= len(words) <= MOST_WORDS:
        return "length"
    source = _words(document)
    length = min(ECHO_WORDS, len(words))
    if _runs(words, length) & _runs(_words(template), length) - _runs(source, length):
        return "echo"
    about = _SELF.search(question)
    if about and not _runs(_words(about[0]), len(_words(about[0]))) & _runs(source, len(_words(about[0]))):
        return "about the text"
    length = min(COPIED_WORDS, len(words))
    return "copied" if _runs(words, length) & _runs(source, length) else None


def shown(document: str) -> str:
    """As much of a document as the model is shown."""
    return " ".join(document.split()[:DOCUMENT_WORDS])[: DOCUMENT_WORDS * CHARACTERS_PER_WORD]


def _round_trip(corpus: Corpus, drafts: Sequence[tuple[int, str]], retriever: Retriever) -> list[BankQuery]:
    """The questions whose document a dense search finds, with their difficulty."""
    if not drafts:
        return []
    sources = [corpus.ids[document] for document, _ in drafts]
    queries = QuerySet(
        [f"single-{source}" for source in sources],
        [question for _, question in drafts],
        {f"single-{source}": {source: 1} for source in sources},
    )
    ranking = retriever.search(retriever.queries(queries.texts, lexical_share=0.0))
    found = (ranking.documents[:, :ROUND_TRIP] == np.array([[document] for document, _ in drafts])).any(axis=1)
    difficulty = Judgments(queries, corpus).gain(ranking.documents, 10)
    return [
        BankQuery(query, text, "single", [source], round(float(value), 6))
        for query, text, source, value, ok in zip(queries.ids, queries.texts, sources, difficulty, found, strict=True)
        if ok
    ]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _runs(words: Sequence[str], length: int) -> set[tuple[str, ...]]:
    """Every stretch of that many words in a row."""
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}
