"""Goes through sources until there are queries enough of a type, and counts what was rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from searchrl.data.query_bank import BankQuery, QueryType
from searchrl.queries.asking import Asker, Draft
from searchrl.queries.cleaning import alike, check, words
from searchrl.queries.filters import Filters
from searchrl.queries.reasons import REASONS, Reason
from searchrl.queries.sources import Source, sources

LEAST_ROUND, MOST_ROUND = 8, 64
"""Sources asked about together: as many as queries are missing, within these bounds."""
PATIENCE = 10
"""Gives up after so many sources for each query wanted."""


@dataclass
class Made:
    """The queries of one type that were kept, and how many were not, by reason."""

    kind: QueryType
    wanted: int
    queries: list[BankQuery] = field(default_factory=list)
    sources: int = 0
    """Documents, or pairs of them, that the language model was asked about."""
    asked: int = 0
    """Questions it was asked for: those kept, and those rejected for any reason."""
    rejected: Counter[Reason] = field(default_factory=Counter)

    @property
    def missing(self) -> int:
        """Queries still to be found."""
        return self.wanted - len(self.queries)

    def counts(self) -> Mapping[Reason, int]:
        """Rejections in the order of the checks, zeros included."""
        return {reason: self.rejected[reason] for reason in REASONS}


class Generator:
    """Makes queries type after type; what one type has, no other type repeats.

    ``seed`` chooses the documents. ``watch`` is told after every round of questions.
    """

    def __init__(self, asker: Asker, filters: Filters, seed: int, watch: Callable[[Made], None] | None = None) -> None:
        self._asker, self._filters, self._seed = asker, filters, seed
        self._watch = watch
        self._taken: set[tuple[str, ...]] = set()
        """Every draft that passed the look at its words, as words."""

    def make(self, kind: QueryType, wanted: int) -> Made:
        """Up to ``wanted`` queries of a type, fewer where the corpus or the patience ends.

        The queries for a smaller number are the first of those for a larger one. Raises DataError where no document has
        words enough to be asked about.
        """
        made = Made(kind, wanted)
        todo = sources(kind, self._asker.corpus, self._filters.retriever.dense, self._seed)
        while made.missing > 0 and made.sources < PATIENCE * wanted:
            batch = list(islice(todo, min(MOST_ROUND, max(LEAST_ROUND, made.missing))))
            if not batch:
                break
            self._round(made, batch)
            if self._watch:
                self._watch(made)
        return made

    def _round(self, made: Made, batch: Sequence[Source]) -> None:
        drafts = self._asker.ask(made.kind, batch)
        made.sources += len(batch)
        made.asked += len(drafts)
        sound = list(self._sound(made, drafts))
        for draft, verdict in zip(sound, self._filters(made.kind, sound), strict=True):
            reason = verdict.reason or (None if made.missing else "surplus")
            if reason:
                made.rejected[reason] += 1
                continue
            ids = [self._asker.corpus.ids[i] for i in draft.source]
            name = f"{made.kind}-{len(made.queries) + 1}"
            made.queries.append(BankQuery(name, draft.text, made.kind, ids, verdict.difficulty))

    def _sound(self, made: Made, drafts: Sequence[Draft]) -> Iterator[Draft]:
        """The drafts whose words say nothing against them."""
        template = self._asker.template(made.kind)
        kept: dict[Source, list[str]] = {}
        for draft in drafts:
            texts = [self._asker.corpus.full_text(i) for i in draft.source]
            reason = check(draft.text, texts, template)
            if reason is None:
                before = kept.setdefault(draft.source, [])
                asked = tuple(words(draft.text))
                if asked in self._taken or any(alike(draft.text, other) for other in before):
                    reason = "duplicate"
                else:
                    self._taken.add(asked)
                    before.append(draft.text)
            if reason:
                made.rejected[reason] += 1
            else:
                yield draft
