"""Asks a language model several questions about each source, in as few calls as can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from searchrl.data.dataset import Corpus
from searchrl.data.query_bank import QueryType
from searchrl.models.language_model import LanguageModel
from searchrl.models.prompts import Prompts
from searchrl.queries.cleaning import clean
from searchrl.queries.sources import Source, without_keywords
from searchrl.retrieval.lexical import LexicalIndex

OPENINGS = ("How", "What", "Why")
"""The first words of questions, in turn."""
SHOWN_WORDS = {"single": 80, "multi": 60, "adversarial": 80}
"""Words of a document that the model is shown, of each."""
CHARACTERS_PER_WORD = 8
"""A part is also cut to this many characters a word, so that one unbroken string cannot fill the model."""
MAX_NEW_TOKENS = 40
TEMPERATURE = 0.6
"""Where the very same is asked again."""


@dataclass(frozen=True)
class Draft:
    """A cleaned answer that is not checked yet."""

    source: Source
    text: str


@dataclass(frozen=True)
class Asker:
    """Who asks. ``per_source``: questions asked about each source; ``seed``: of what is sampled."""

    lm: LanguageModel
    prompts: Prompts
    corpus: Corpus
    lexical: LexicalIndex
    per_source: int
    seed: int

    def template(self, kind: QueryType) -> str:
        """The prompt of a type before it is filled in."""
        return {"single": self.prompts.single, "multi": self.prompts.multi, "adversarial": self.prompts.adversarial}[
            kind
        ]

    def ask(self, kind: QueryType, sources: Sequence[Source]) -> list[Draft]:
        """``per_source`` drafts of each source, in order.

        Questions of a source differ in how they begin and, where a document is long enough, in the part of it that is
        shown; each is answered greedily. One that would be the same again is sampled.
        """
        prompts = [list(self._prompts(kind, source)) for source in sources]
        again = [[prompt in asked[:k] for k, prompt in enumerate(asked)] for asked in prompts]
        answers: dict[tuple[int, int], str] = {}
        for turn in range(-1, self.per_source):  # at first everything that is greedy, in one call
            places = [
                (i, k)
                for i, asked in enumerate(prompts)
                for k in range(len(asked))
                if (k == turn if again[i][k] else turn == -1)
            ]
            if places:
                texts = self.lm.generate(
                    [prompts[i][k] for i, k in places],
                    max_new_tokens=MAX_NEW_TOKENS,
                    temperature=0.0 if turn == -1 else TEMPERATURE,
                    seed=self.seed + max(turn, 0),
                )
                answers.update(zip(places, texts, strict=True))
        begun = "{opening}" in self.template(kind)
        return [
            Draft(source, clean(answers[i, k], OPENINGS[k % len(OPENINGS)] if begun else ""))
            for i, source in enumerate(sources)
            for k in range(self.per_source)
        ]

    def _prompts(self, kind: QueryType, source: Source) -> Iterator[str]:
        for k in range(self.per_source):
            parts = [part(self.corpus, i, SHOWN_WORDS[kind], k) for i in source]
            opening = OPENINGS[k % len(OPENINGS)]
            if kind == "multi":
                yield self.template(kind).format(first=parts[0], second=parts[1], opening=opening)
            else:
                hidden = kind == "adversarial"
                text = without_keywords(source[0], parts[0], self.lexical) if hidden else parts[0]
                yield self.template(kind).format(document=text, opening=opening)


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
