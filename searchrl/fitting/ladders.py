"""Ladders: one query and keys of falling relevance, or one key and queries that it answers ever less."""

from __future__ import annotations

from collections.abc import Sequence

from searchrl.data.dataset import Corpus
from searchrl.fitting.query_recs import shown
from searchrl.models.language_model import LanguageModel

KEY_RUNGS = (
    "in other words, leaving out the fact that answers the question",
    "about another side of the same subject, which does not answer the question",
    "about a subject close to it, using some of the same words",
    "about another subject of the same field",
    "about something else altogether that shares only a word or two",
)
"""What a language model is asked to write instead of a document, each further from the question than the last."""

QUERY_RUNGS = (
    "that the passage answers completely",
    "that the passage answers in part",
    "about the passage's subject that the passage does not answer",
    "about a subject close to the passage's",
    "about another subject of the same field",
)
"""What a language model is asked to ask, each further from the document than the last."""

KEY_PROMPT = (
    "Question: {query}\n\nPassage: {document}\n\nWrite a passage of about the same length {rung}.\n\nNew passage:"
)
QUERY_PROMPT = "Passage: {document}\n\nWrite one question {rung}.\n\nQuestion: What"
UNSUPPORTED = "that uses words of the passage but that the passage does not answer"

KEY_TOKENS = 160
QUERY_TOKENS = 40


def written_keys(
    corpus: Corpus, rows: Sequence[int], queries: Sequence[str], count: int, lm: LanguageModel
) -> list[list[str]]:
    """For each query and its document, ``count`` passages of falling relevance; fewer where an answer is empty."""
    asked = [
        KEY_PROMPT.format(query=query, document=shown(corpus.full_text(row)), rung=rung)
        for row, query in zip(rows, queries, strict=True)
        for rung in KEY_RUNGS[:count]
    ]
    answers = [" ".join(answer.split()) for answer in lm.generate(asked, max_new_tokens=KEY_TOKENS)]
    return [_distinct(answers[i : i + count], corpus.full_text(row)) for i, row in _blocks(rows, count)]


def written_queries(corpus: Corpus, rows: Sequence[int], rungs: Sequence[str], lm: LanguageModel) -> list[list[str]]:
    """For each document a query for each rung, best first; where one cannot be used, it is left out as ""."""
    from searchrl.fitting.query_recs import clean

    asked = [QUERY_PROMPT.format(document=shown(corpus.full_text(row)), rung=rung) for row in rows for rung in rungs]
    answers = [clean(answer, "questions") for answer in lm.generate(asked, max_new_tokens=QUERY_TOKENS)]
    return [answers[i : i + len(rungs)] for i, _ in _blocks(rows, len(rungs))]


def _distinct(texts: Sequence[str], original: str) -> list[str]:
    """What is neither empty, nor said before, nor the document itself."""
    kept: dict[str, None] = {}
    for text in texts:
        if text and text != " ".join(original.split()):
            kept[text] = None
    return list(kept)


def _blocks(rows: Sequence[int], size: int) -> list[tuple[int, int]]:
    return [(i * size, row) for i, row in enumerate(rows)]
