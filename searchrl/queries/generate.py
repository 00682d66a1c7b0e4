"""Goes through sources until there are queries enough of a type, and counts what was rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from searchrl.data.dataset import Dataset, QuerySet, Split
from searchrl.data.query_bank import BankQuery, QueryBank, QueryType
from searchrl.queries.cleaning import REASONS, Reason, alike, check, words
from searchrl.queries.filters import Filters
from searchrl.queries.sources import Source, sources
from searchrl.queries.writing import Draft, QuestionWriter

LEAST_ROUND, MOST_ROUND = 8, 64
"""Sources asked about together: as many as queries are missing, within these bounds."""
PATIENCE = 10
"""Gives up after so many sources for each query wanted."""


@dataclass
class GeneratedQueries:
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

    def __init__(
        self,
        writer: QuestionWriter,
        filters: Filters,
        seed: int,
        watch: Callable[[GeneratedQueries], None] | None = None,
    ) -> None:
        self._writer, self._filters, self._seed = writer, filters, seed
        self._watch = watch
        self._taken: set[tuple[str, ...]] = set()
        """Every draft that passed the look at its words, as words."""

    def make(self, kind: QueryType, wanted: int) -> GeneratedQueries:
        """Up to ``wanted`` queries of a type, fewer where the corpus or the patience ends.

        The queries for a smaller number are the first of those for a larger one. Raises DataError where no document has
        words enough to be asked about.
        """
        made = GeneratedQueries(kind, wanted)
        todo = sources(kind, self._writer.corpus, self._filters.retriever.dense, self._seed)
        while made.missing > 0 and made.sources < PATIENCE * wanted:
            batch = list(islice(todo, min(MOST_ROUND, max(LEAST_ROUND, made.missing))))
            if not batch:
                break
            self._round(made, batch)
            if self._watch:
                self._watch(made)
        return made

    def _round(self, made: GeneratedQueries, batch: Sequence[Source]) -> None:
        drafts = self._writer.write(made.kind, batch)
        made.sources += len(batch)
        made.asked += len(drafts)
        sound = list(self._sound(made, drafts))
        for draft, verdict in zip(sound, self._filters(made.kind, sound), strict=True):
            reason = verdict.reason or (None if made.missing else "surplus")
            if reason:
                made.rejected[reason] += 1
                continue
            ids = [self._writer.corpus.ids[i] for i in draft.source]
            name = f"{made.kind}-{len(made.queries) + 1}"
            made.queries.append(BankQuery(name, draft.text, made.kind, ids, verdict.difficulty))

    def _sound(self, made: GeneratedQueries, drafts: Sequence[Draft]) -> Iterator[Draft]:
        """The drafts whose words say nothing against them."""
        template = self._writer.template(made.kind)
        kept: dict[Source, list[str]] = {}
        for draft in drafts:
            texts = [self._writer.corpus.full_text(i) for i in draft.source]
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


def as_dataset(dataset: Dataset, bank: QueryBank, seed: int) -> Dataset:
    """The corpus with the bank's queries as ``train`` and ``dev`` (``QueryBank.splits``), and with the dataset's own
    ``test`` queries, where it has any: what was learned from generated queries is measured on human judgments.
    """
    test = dataset.splits.get("test")
    own: dict[Split, QuerySet] = {} if test is None else {"test": test}
    return Dataset(dataset.name, dataset.corpus, {**bank.splits(seed), **own})
