"""What every dataset is, wherever it came from: documents, queries by split, human judgments.

The splits that a collection lacks are made here, always the same ones for the same seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, overload

from searchrl.errors import DataError
from searchrl.threads import lazy

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

OwnDocument = Literal["text", "id", "none"]

Qrels = Mapping[str, Mapping[str, int]]
"""query id -> document id -> grade (0 not relevant, higher is better)."""


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order; position in the corpus is the document's index everywhere else."""

    ids: Sequence[str]
    titles: Sequence[str]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)

    def full_text(self, index: int) -> str:
        """Title and text of one document as models read it."""
        return joined(self.titles[index], self.texts[index])

    def full_texts(self, indices: Iterable[int] | None = None) -> Sequence[str]:
        """``full_text`` of all documents, each made when it is asked for; or of some, made now."""
        return _FullTexts(self) if indices is None else [self.full_text(i) for i in indices]

    @lazy
    def position(self) -> dict[str, int]:
        """Document id -> index."""
        return {doc_id: i for i, doc_id in enumerate(self.ids)}

    @lazy
    def fingerprint(self) -> str:
        """SHA-256 over ids, titles and texts in order: 16 hex digits name this corpus in every cache."""
        digest = hashlib.sha256()
        for triple in zip(self.ids, self.titles, self.texts, strict=True):
            for part in triple:
                encoded = part.encode("utf-8", "surrogatepass")
                digest.update(len(encoded).to_bytes(8, "little"))
                digest.update(encoded)
        return digest.hexdigest()[:16]


class _FullTexts(Sequence[str]):
    """Whoever goes through them goes through both columns, which may be on the disk, side by side."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def __len__(self) -> int:
        return len(self._corpus)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [joined(*parts) for parts in zip(self._corpus.titles[index], self._corpus.texts[index], strict=True)]
        return self._corpus.full_text(index)

    def __iter__(self) -> Iterator[str]:
        return map(joined, self._corpus.titles, self._corpus.texts)


def joined(title: str, text: str) -> str:
    """A document as models read it."""
    return f"{title} {text}".strip()


@dataclass(frozen=True)
class QuerySet:
    """The queries of one split with their judgments; order fixed.

    ``qrels`` may be empty: queries without human judgments (a generated query bank, say).
    """

    ids: Sequence[str]
    texts: Sequence[str]
    qrels: Qrels = field(default_factory=dict)
    own_document: OwnDocument = "text"
    """How a document is known to be a query itself: see ``own_document.py``."""

    def __len__(self) -> int:
        return len(self.ids)

    @lazy
    def fingerprint(self) -> str:
        """SHA-256 over ids, texts, judgments and the rule for a query's own document, 16 hex digits."""
        judged = [(q, sorted(self.qrels.get(q, {}).items())) for q in self.ids]
        text = json.dumps([list(self.ids), list(self.texts), judged, self.own_document])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def judged(self) -> bool:
        """Whether any query here has human judgments."""
        return bool(self.qrels)

    def take(self, n: int) -> QuerySet:
        """The first ``n`` queries (all, if there are fewer)."""
        return self.only(range(min(n, len(self))))

    def joined(self, others: QuerySet) -> QuerySet:
        """These queries and then others; an id of those that is taken here gets stars behind it."""
        names: dict[str, str] = {}
        taken = set(self.ids)
        for name in others.ids:
            free = name
            while free in taken:
                free += "*"
            names[name] = free
            taken.add(free)
        qrels = {names[q]: grades for q, grades in others.qrels.items() if q in names}
        ids, texts = [*self.ids, *names.values()], [*self.texts, *others.texts]
        return replace(self, ids=ids, texts=texts, qrels={**self.qrels, **qrels})

    def only(self, places: Iterable[int]) -> QuerySet:
        """The queries at these places, with their judgments."""
        places = list(places)
        ids = [self.ids[i] for i in places]
        texts, qrels = [self.texts[i] for i in places], {q: self.qrels[q] for q in ids if q in self.qrels}
        return replace(self, ids=ids, texts=texts, qrels=qrels)


@dataclass(frozen=True)
class Dataset:
    """A corpus and its query sets. A split that does not exist is absent from ``splits``."""

    name: str
    corpus: Corpus
    splits: Mapping[Split, QuerySet]
    notes: Sequence[str] = ()
    """What a reader of the results must know: splits made here, judgments dropped, and so on."""


def with_own_document(dataset: Dataset, rule: OwnDocument) -> Dataset:
    """The dataset with another rule for which document is a query itself."""
    splits = {split: replace(queries, own_document=rule) for split, queries in dataset.splits.items()}
    return replace(dataset, splits=splits)


NO_TRAIN = "no train split: train on synthetic queries, transfer from another dataset, or use train_from_dev"
DEV_SHARE = 0.2
DEV_MOST = 200


def with_dev_split(dataset: Dataset, seed: int) -> Dataset:
    """Take a dev split out of train where there is none, and note it; say so where there is no train.

    About a fifth of the train queries go to dev, at most 200. Which ones depends on each query's id and the seed alone,
    so adding queries leaves the others where they were (at the cap, each new one in dev displaces one).
    """
    train = dataset.splits.get("train")
    if train is None:
        return _noted(dataset, NO_TRAIN)
    if "dev" in dataset.splits:
        return dataset
    if len(train) < 2:
        return _noted(dataset, "no dev split: train has only one query to spare")
    chosen = _choose(train.ids, DEV_SHARE, DEV_MOST, seed)
    kept, dev = _divide(train, chosen)
    note = f"dev: {len(dev)} of {len(train)} train queries, taken out with seed {seed}; the collection has no dev split"
    return _noted(_with(dataset, kept, dev), note)


def train_from_dev(dataset: Dataset, seed: int) -> Dataset:
    """Split dev in two, one half to train on, and note it. Only for who asks: published dev scores no longer apply.

    Raises ``DataError`` if there is a train split already, or fewer than two dev queries.
    """
    if "train" in dataset.splits:
        raise DataError(f"{dataset.name}: has a train split; dev need not be divided")
    dev = dataset.splits.get("dev")
    if dev is None or len(dev) < 2:
        raise DataError(f"{dataset.name}: no dev split of two queries or more to take train queries from")
    kept, train = _divide(dev, _choose(dev.ids, 1.0, len(dev) // 2, seed))
    dataset = replace(dataset, notes=tuple(n for n in dataset.notes if n != NO_TRAIN))
    note = f"train: {len(train)} of {len(dev)} dev queries, taken out with seed {seed}; dev keeps the others"
    return _noted(_with(dataset, train, kept), note)


def _choose(ids: Sequence[str], share: float, most: int, seed: int) -> set[str]:
    """The ids whose hash falls into the share; the lowest ``most`` of them; at least one, and not all."""
    draws = {query_id: _draw(query_id, seed) for query_id in ids}
    lowest_first = sorted(ids, key=lambda query_id: (draws[query_id], query_id))
    inside = sum(draw < share for draw in draws.values())
    return set(lowest_first[: max(1, min(inside, most, len(lowest_first) - 1))])


def _draw(query_id: str, seed: int) -> float:
    """A number in [0, 1) that depends on id and seed only; Python's own ``hash`` differs between processes."""
    digest = hashlib.sha256(f"{seed}\0{query_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _divide(queries: QuerySet, taken: set[str]) -> tuple[QuerySet, QuerySet]:
    """The queries that stay and those taken, both in the order they had."""

    stay = (i for i, query_id in enumerate(queries.ids) if query_id not in taken)
    return queries.only(stay), queries.only(i for i, query_id in enumerate(queries.ids) if query_id in taken)


def _with(dataset: Dataset, train: QuerySet, dev: QuerySet) -> Dataset:
    splits: dict[Split, QuerySet] = {**dataset.splits, "train": train, "dev": dev}
    return replace(dataset, splits={split: splits[split] for split in SPLITS if split in splits})


def _noted(dataset: Dataset, note: str) -> Dataset:
    return replace(dataset, notes=(*dataset.notes, note))
