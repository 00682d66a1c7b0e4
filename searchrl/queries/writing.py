"""Chooses documents and has a language model write about them: questions, titles, keywords, ladders of queries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.data.query_bank import QueryType
from searchrl.device import rng
from searchrl.errors import DataError
from searchrl.models.language_model import LanguageModel
from searchrl.models.prompts import CHARACTERS_PER_WORD, Prompts, beginning, fill
from searchrl.queries.cleaning import QueryKind, clean, clean_query
from searchrl.retrieval.index import Index, Words, top_terms
from searchrl.retrieval.ranking import DOCUMENT, lengths
from searchrl.text import is_unspaced, size

OPENINGS = ("How", "What", "Why")
"""The first words of questions, in turn."""
SHOWN_WORDS = {"single": 80, "multi": 60, "adversarial": 80}
"""Words of a document that the model is shown, of each."""
DOCUMENT_WORDS = 80
"""Words of a document that the model is shown where it writes for fitting."""
MAX_NEW_TOKENS = 40
KEY_TOKENS = 160
"""Room for a passage."""
TEMPERATURE, VARIED = 0.6, 0.8
"""Where the very same is asked again: for a query bank, and for fitting."""


@dataclass(frozen=True)
class Draft:
    """A cleaned answer that is not checked yet."""

    source: Source
    text: str


@dataclass(frozen=True)
class QueryRec:
    """One query, and the document (row of ``df.csv``) that it was written from, where one was."""

    query: str
    df_id: int | None
    kind: str

    def record(self) -> dict[str, Any]:
        """As the files have it."""
        return {"query": self.query, "df_id": self.df_id, "query-type": self.kind}


def ask(
    lm: LanguageModel, prompts: Sequence[Sequence[str]], *, tokens: int, temperature: float = 0.0, seed: int = 0
) -> list[list[str]]:
    """Answers to the prompts about each source, in as few calls as can be.

    Every prompt is answered greedily, all of them in one call. One that its source has had before is sampled, from
    ``seed`` plus its place.
    """
    again = [[prompt in asked[:k] for k, prompt in enumerate(asked)] for asked in prompts]
    answers = [[""] * len(asked) for asked in prompts]
    for turn in range(-1, max(map(len, prompts), default=0)):
        places = [
            (i, k)
            for i, repeated in enumerate(again)
            for k in range(len(repeated))
            if (k == turn if repeated[k] else turn == -1)
        ]
        if places:
            texts = lm.generate(
                [prompts[i][k] for i, k in places],
                max_new_tokens=tokens,
                temperature=0.0 if turn == -1 else temperature,
                seed=seed + max(turn, 0),
            )
            for (i, k), text in zip(places, texts, strict=True):
                answers[i][k] = text
    return answers


@dataclass(frozen=True)
class QuestionWriter:
    """Writes questions for a query bank. ``per_source``: questions about each source; ``seed``: of what is sampled."""

    lm: LanguageModel
    prompts: Prompts
    corpus: Corpus
    lexical: Words
    per_source: int
    seed: int

    def template(self, kind: QueryType) -> str:
        """The prompt of a type before it is filled in."""
        template: str = getattr(self.prompts, kind)
        return template

    def write(self, kind: QueryType, sources: Sequence[Source]) -> list[Draft]:
        """``per_source`` drafts of each source, in order.

        Questions of a source differ in how they begin and, where a document is long enough, in the part of it that is
        shown; each is answered greedily. One that would be the same again is sampled.
        """
        prompts = [[self._prompt(kind, source, k) for k in range(self.per_source)] for source in sources]
        answers = ask(self.lm, prompts, tokens=MAX_NEW_TOKENS, temperature=TEMPERATURE, seed=self.seed)
        begun = "{opening}" in self.template(kind)
        return [
            Draft(source, clean(answer, OPENINGS[k % len(OPENINGS)] if begun else ""))
            for source, own in zip(sources, answers, strict=True)
            for k, answer in enumerate(own)
        ]

    def _prompt(self, kind: QueryType, source: Source, k: int) -> str:
        parts = [part(self.corpus, i, SHOWN_WORDS[kind], k) for i in source]
        if kind == "adversarial":
            parts = [without_keywords(source[0], parts[0], self.lexical)]
        names = ("first", "second") if kind == "multi" else ("document",)
        return fill(self.template(kind), opening=OPENINGS[k % len(OPENINGS)], **dict(zip(names, parts, strict=True)))


def part(corpus: Corpus, document: int, length: int, number: int) -> str:
    """Some words of a document: its beginning (0), or its title and a later part, as far as there is one.

    Parts overlap by half; past the last, the beginning comes again.
    """
    title, words = corpus.titles[document].split(), corpus.texts[document].split()
    room = max(length - len(title), length // 2)
    step = max(1, room // 2)
    count = 1 + max(0, len(words) - room + step - 1) // step
    start = number % count * step
    return " ".join([*title, *words[start:]][:length])[: length * CHARACTERS_PER_WORD]


@dataclass(frozen=True)
class FittingWriter:
    """Writes for the fitting of a reward model: titles, questions, keywords, and ladders."""

    lm: LanguageModel
    prompts: Prompts
    corpus: Corpus

    def queries(
        self, rows: Sequence[int], kinds: Sequence[QueryKind], per_document: int, seed: int
    ) -> tuple[list[QueryRec], int]:
        """``per_document`` queries of each kind about each of the documents ``rows``; all but the first are sampled.

        Returns what is worth keeping, in the order of the documents, and how many answers there were.
        """
        templates: Mapping[QueryKind, str] = {
            "titles": self.prompts.title,
            "questions": self.prompts.question,
            "keywords": self.prompts.keywords,
        }
        found: dict[int, list[QueryRec]] = {row: [] for row in rows}
        for kind in kinds:
            prompts = [[fill(templates[kind], document=self._shown(row))] * per_document for row in rows]
            answers = ask(self.lm, prompts, tokens=MAX_NEW_TOKENS, temperature=VARIED, seed=seed)
            for row, own in zip(rows, answers, strict=True):
                for query in (clean_query(answer, kind) for answer in own):
                    if query and all(query.lower() != other.query.lower() for other in found[row]):
                        found[row].append(QueryRec(query, row, kind))
        return [rec for recs in found.values() for rec in recs], len(kinds) * per_document * len(rows)

    def keys(self, rows: Sequence[int], queries: Sequence[str], count: int) -> list[list[str]]:
        """For each query and its document ``count`` passages, each further from the query than the last; fewer where an
        answer is empty, the document itself, or written before.
        """
        rungs = self.prompts.key_rungs.splitlines()[:count]
        prompts = [
            [fill(self.prompts.key, query=query, document=self._shown(row), rung=rung) for rung in rungs]
            for row, query in zip(rows, queries, strict=True)
        ]
        passages = []
        for row, answers in zip(rows, ask(self.lm, prompts, tokens=KEY_TOKENS), strict=True):
            distinct = dict.fromkeys(" ".join(answer.split()) for answer in answers)
            original = " ".join(self.corpus.full_text(row).split())
            passages.append([text for text in distinct if text and text != original])
        return passages

    def query_ladders(self, rows: Sequence[int], count: int) -> list[list[str]]:
        """For each document up to ``count`` different questions, each further from it than the last."""
        rungs = self.prompts.query_rungs.splitlines()[:count]
        prompts = [[self._question(row, rung) for rung in rungs] for row in rows]
        answers = ask(self.lm, prompts, tokens=MAX_NEW_TOKENS)
        cleaned = [[clean_query(answer, "questions") for answer in own] for own in answers]
        return [list(dict.fromkeys(query for query in own if query)) for own in cleaned]

    def query_pairs(self, rows: Sequence[int], count: int, seed: int) -> list[list[tuple[str, str]]]:
        """For each document up to ``count`` pairs: a question that it answers, and one that only uses its words."""
        sides = []
        for rung in (self.prompts.query_rungs.splitlines()[0], self.prompts.unanswered):
            prompts = [[self._question(row, rung)] * count for row in rows]
            sides.append(ask(self.lm, prompts, tokens=MAX_NEW_TOKENS, temperature=VARIED, seed=seed))
        pairs = []
        for chosen, rejected in zip(*sides, strict=True):
            own = [
                (clean_query(one, "questions"), clean_query(other, "questions"))
                for one, other in zip(chosen, rejected, strict=True)
            ]
            pairs.append(list(dict.fromkeys(pair for pair in own if all(pair) and pair[0] != pair[1])))
        return pairs

    def _question(self, row: int, rung: str) -> str:
        return fill(self.prompts.query, document=self._shown(row), rung=rung)

    def _shown(self, row: int) -> str:
        return beginning(self.corpus.full_text(row), DOCUMENT_WORDS)


LEAST_DOCUMENT_WORDS = 5
"""A document with fewer is not asked about."""
NEIGHBOURS = 5
"""A document is paired with one of so many nearest."""
SAME = 0.95
"""Cosine from which on two documents say the same, so that nothing needs both."""
KEYWORDS = 5
"""Words of a document that are hidden where an adversarial question is asked."""

Source = tuple[int, ...]
"""The documents of one question, as positions in the corpus."""


def sources(kind: QueryType, corpus: Corpus, index: Index, seed: int) -> Iterator[Source]:
    """What to ask about, without end until the corpus has been gone through; equal for equal seeds.

    ``single``, ``adversarial``: every document that has words enough, in an order of the type's own. ``multi``: the
    same, each with its nearest neighbour that is not a copy; no pair comes twice.

    Raises DataError where no document has words enough.
    """
    order = rng(seed, "querygen", kind).permutation(len(corpus))
    enough = set(rows_to_ask(corpus))
    if not enough:
        raise DataError(f"no document has {LEAST_DOCUMENT_WORDS} words or more; there is nothing to ask about")
    documents = (int(i) for i in order if int(i) in enough)
    return ((i,) for i in documents) if kind != "multi" else _pairs(documents, enough, index)


def rows_to_ask(corpus: Corpus) -> list[int]:
    """The documents that have words enough to be asked about."""
    return [i for i, text in enumerate(corpus.full_texts()) if size(text) >= LEAST_DOCUMENT_WORDS]


def _pairs(documents: Iterator[int], enough: set[int], index: Index) -> Iterator[Source]:
    seen: set[frozenset[int]] = set()
    for document in documents:
        itself = np.array([document], dtype=DOCUMENT)
        near = index.nearest(index.vectors(itself), NEIGHBOURS, exclude=itself)
        own, others = lengths(index.vectors(itself)), lengths(index.vectors(np.maximum(near.documents[0], 0)))
        cosines = near.scores[0] / (own[0] * others[:, 0])
        for other, cosine in zip(near.documents[0].tolist(), cosines.tolist(), strict=True):
            pair = frozenset((document, other))
            if other in enough and cosine < SAME and pair not in seen:
                seen.add(pair)
                yield document, other
                break


def without_keywords(document: int, text: str, lexical: Words) -> str:
    """A document's text, or a part of it, without the words that weigh most in it by BM25, in any form of them."""
    hidden = set(top_terms(lexical, document, KEYWORDS).tolist())
    names = list(lexical.vocabulary)
    found = {word.lower() for word in re.findall(r"\w\w+", text)}
    present = sorted(word for word in found if not any(map(is_unspaced, word)))
    terms = lexical.query_terms(present)
    keywords = {word for row, word in enumerate(present) if hidden.intersection(terms[row].indices.tolist())}
    kept = re.sub(r"\w\w+", lambda match: "" if match[0].lower() in keywords else match[0], text)
    for term in (names[i] for i in hidden):
        if is_unspaced(term):  # a stretch without spaces is no word: only what weighs most goes
            kept = kept.replace(term, "")
    return " ".join(kept.split())
