"""A language model rewrites the query; the rewriting is anchored on what the user asked.

The model sees the original query, the current one and the beginnings of the last ranking's top documents, and answers
with one line. That line becomes the new text. Its vector and terms are mixed with the original query's, because a
rewriting that replaces the query loses it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.errors import ConfigError
from searchrl.models.language_model import LanguageModel
from searchrl.models.prompts import Prompts, fill
from searchrl.reformulate.reformulator import Direction, Judged, mix_terms, mix_vectors
from searchrl.retrieval.ranking import Queries, Ranking
from searchrl.retrieval.retriever import Retriever
from searchrl.text import size, words

Outcome = Literal["ok", "empty", "runaway", "echo", "same"]

DOCUMENTS_SHOWN = 3
WORDS_SHOWN = 16
"""Of each document: its title, or how its text begins where there is none."""

BROADEN_LEXICAL_SHARE = 0.5
"""The least share of the lexical leg after BROADEN: other words find other documents."""

ECHO_WORDS = 4
"""So many words in a row from the prompt are no coincidence; of a shorter answer, all."""

_LABEL = re.compile(
    r"""^(?:[-*•>#]\s+|\d{1,2}[.)]\s+)?  # list mark
    (?:(?:(?:the|your|new|more|better|best|revised|rewritten|narrow|narrower|specific|broad|broader|general|search)\s+)*
    (?:query|rewriting|rewrite|answer)(?:\s+is)?\s*:)?\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_QUOTES = "\"'`“”‘’«»*"


@dataclass(frozen=True)
class LMReformulator:
    """Rewrites by language model, greedily, so that the same query always gets the same rewriting.

    ``anchor`` is the original query's share in the new vector and terms: 0 leaves the rewriting alone, 1 the original.
    A bad answer leaves its query as it was and is counted in ``counts``. Raises ConfigError on an impossible setting.
    """

    lm: LanguageModel
    retriever: Retriever
    corpus: Corpus
    prompts: Prompts
    anchor: float = 0.7
    max_new_tokens: int = 24
    counts: Counter[Outcome] = field(default_factory=Counter, compare=False, repr=False)
    """How often each outcome of ``check`` came up since this object was made."""

    lm_calls = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.anchor <= 1.0:
            raise ConfigError(f"anchor {self.anchor}: must lie between 0 and 1")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens {self.max_new_tokens}: must be at least 1")

    @property
    def fingerprint(self) -> str:
        """Model, prompts and settings; encoder and corpus are named by whoever holds their index."""
        settings = f"{self.anchor} {self.max_new_tokens} {DOCUMENTS_SHOWN} {WORDS_SHOWN}"
        return f"lm-1 {self.lm.fingerprint} {self.prompts.digest('narrow', 'broaden')} {settings}"

    def reformulate(
        self, direction: Direction, original: Queries, current: Queries, last: Ranking, judged: Judged | None = None
    ) -> Queries:
        """Rewrite n queries in one batch. NARROW keeps the share of the lexical leg, BROADEN raises it to one half."""
        from scipy import sparse

        template = self.prompts.narrow if direction == "narrow" else self.prompts.broaden
        shown = [self._beginnings(documents) for documents in last.documents]
        prompts = [
            fill(template, query=now, original=first, documents=documents)
            for now, first, documents in zip(current.texts, original.texts, shown, strict=True)
        ]
        answers = [clean(answer) for answer in self.lm.generate(prompts, max_new_tokens=self.max_new_tokens)]
        outcomes = [
            check(answer, first, now, template)
            for answer, first, now in zip(answers, original.texts, current.texts, strict=True)
        ]
        self.counts.update(outcomes)
        good = np.array([outcome == "ok" for outcome in outcomes], dtype=bool)
        if not good.any():
            return current
        texts = [answer if ok else now for answer, ok, now in zip(answers, good, current.texts, strict=True)]
        written = self.retriever.queries(texts)
        vectors = mix_vectors(original.vectors, written.vectors, self.anchor)
        terms = mix_terms(original.terms, written.terms, self.anchor)
        least = BROADEN_LEXICAL_SHARE if direction == "broaden" else 0.0
        return Queries(
            texts,
            np.where(good[:, None], vectors, current.vectors),
            sparse.csr_matrix(_rows(good) @ terms + _rows(~good) @ current.terms, dtype=np.float32),
            np.where(good, np.maximum(current.lexical, np.float32(least)), current.lexical),
        )

    def _beginnings(self, documents: np.ndarray[Any, Any]) -> str:
        """The first words of the top documents, one a line."""
        top = [int(i) for i in documents[:DOCUMENTS_SHOWN] if i >= 0]
        return "\n".join("- " + " ".join(self.corpus.full_text(i).split()[:WORDS_SHOWN]) for i in top) or "- nothing"


def clean(answer: str) -> str:
    """The query in a model's answer: its first line that says something, without label, list mark or quotes.

    >>> clean('\\n  Broader query:  "heart   disease"\\nI hope this helps!')
    'heart disease'
    """
    for line in answer.splitlines():
        text = " ".join(_LABEL.sub("", line.strip().lstrip(_QUOTES), count=1).split()).strip(_QUOTES + " ")
        if text:
            return text
    return ""


def check(answer: str, original: str, current: str, template: str) -> Outcome:
    """Say whether a cleaned answer can serve as the new query.

    ``empty``: no word in it. ``runaway``: more than three times the original's words and 12 more. ``same``: the current
    query again. ``echo``: it repeats four words in a row of the prompt's own wording (``template``), such as an
    example's answer, or speaks of a "search query" instead of being one; words that the user wrote are no echo.
    """
    said = words(answer)
    known = [*words(original), "\n", *words(current)]
    if not said:
        return "empty"
    if size(answer) > 3 * size(original) + 12:
        return "runaway"
    if said == words(current):
        return "same"
    length = min(ECHO_WORDS, len(said))
    repeated = _runs(said, length) & _runs(words(template), length) - _runs(known, length)
    about = ("search", "query") in _runs(said, 2) - _runs(known, 2)
    return "echo" if repeated or about else "ok"


def _runs(words: Sequence[str], length: int) -> set[tuple[str, ...]]:
    """Every stretch of that many words in a row."""
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def _rows(keep: np.ndarray[Any, Any]) -> Any:
    """A diagonal matrix that keeps the rows where ``keep`` is true and empties the others."""
    from scipy import sparse

    return sparse.diags_array(keep.astype(np.float32))
