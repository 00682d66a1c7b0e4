"""Goes through sources until there are queries enough of a type; keeps what search and reward model find good.

Round-trip consistency (Alberti et al. 2019; for retrieval, Dai et al. 2022, Promptagator): a question that does not
lead back to its source teaches a searcher nothing. The search is lenient, so that hard questions stay; whether the
source really is the answer, the reward model decides against the best of the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from searchrl.data.dataset import Corpus, Dataset, QuerySet, Split
from searchrl.data.query_bank import BankQuery, QueryBank, QueryType
from searchrl.queries.cleaning import LEAST_TERMS, OTHERS, REASONS, ROUND_TRIP, Reason, alike, check
from searchrl.queries.writing import Draft, QuestionWriter, Source, sources
from searchrl.retrieval.ranking import NO_DOCUMENT, IntArray
from searchrl.retrieval.retriever import Retriever
from searchrl.reward.gain import Judgments
from searchrl.reward.reward_model import RewardModel, checked_scores
from searchrl.text import words

DENSE, LEXICAL = 0.0, 1.0


@dataclass(frozen=True)
class Verdict:
    """Of one draft. ``difficulty``: nDCG@10 of one plain dense search, its sources being what is relevant."""

    reason: Reason | None
    difficulty: float


@dataclass(frozen=True)
class Filters:
    """A search over the corpus, and a reward model; None leaves its part out."""

    corpus: Corpus
    retriever: Retriever
    reward_model: RewardModel | None

    def __call__(self, kind: QueryType, drafts: Sequence[Draft]) -> list[Verdict]:
        """A verdict for each draft; the reward model, which is slow, sees only what the searches let through."""
        if not drafts:
            return []
        fresh = self.retriever.queries([draft.text for draft in drafts], DENSE)
        dense = self.retriever.search(fresh).documents
        reasons: list[Reason | None] = [
            "vague"
            if terms < LEAST_TERMS
            else None
            if set(draft.source) <= set(row[:ROUND_TRIP].tolist())
            else "not found"
            for draft, row, terms in zip(drafts, dense, fresh.terms.getnnz(axis=1), strict=True)
        ]
        rivals = dense
        if kind == "adversarial":
            again = self.retriever.queries(fresh.texts, LEXICAL, fresh.vectors)
            lexical = self.retriever.search(again).documents
            for i, (draft, row) in enumerate(zip(drafts, lexical, strict=True)):
                if reasons[i] is None and row[0] in draft.source:
                    reasons[i] = "found by its words"
            rivals = np.concatenate([lexical[:, : OTHERS + 1], dense], axis=1)
        good = [i for i, reason in enumerate(reasons) if reason is None]
        for i, wins in zip(good, self._wins([drafts[i] for i in good], rivals[good]), strict=True):
            reasons[i] = None if wins else "judged lower"
        return list(map(Verdict, reasons, self._difficulty(drafts, dense)))

    def _wins(self, drafts: Sequence[Draft], rivals: IntArray) -> list[bool]:
        """Whether the reward model likes none of the first few rivals better than any source of a draft."""
        if self.reward_model is None or not drafts:
            return [True] * len(drafts)
        others = [
            list(dict.fromkeys(d for d in row if d != NO_DOCUMENT and d not in draft.source))[:OTHERS]
            for draft, row in zip(drafts, rivals.tolist(), strict=True)
        ]
        judged = [(*draft.source, *other) for draft, other in zip(drafts, others, strict=True)]
        texts = [self.corpus.full_text(d) for documents in judged for d in documents]
        queries = [draft.text for draft, documents in zip(drafts, judged, strict=True) for _ in documents]
        scores = iter(checked_scores(self.reward_model, queries, texts).tolist())
        return [
            min(islice(scores, len(draft.source))) >= max(islice(scores, len(other)), default=-np.inf)
            for draft, other in zip(drafts, others, strict=True)
        ]

    def _difficulty(self, drafts: Sequence[Draft], dense: IntArray) -> list[float]:
        ids = [f"draft {i}" for i in range(len(drafts))]  # with a space, so no document's id
        qrels = {i: {self.corpus.ids[d]: 1 for d in draft.source} for i, draft in zip(ids, drafts, strict=True)}
        judgments = Judgments(QuerySet(ids, [draft.text for draft in drafts], qrels), self.corpus)
        return [round(float(value), 6) for value in judgments.gain(dense, 10)]


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
        todo = sources(kind, self._writer.corpus, self._filters.retriever.index, self._seed)
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
