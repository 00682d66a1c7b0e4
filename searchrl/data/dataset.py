"""What every dataset is, wherever it came from: documents, queries by split, human judgments."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from searchrl.threads import lazy

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

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
        return f"{self.titles[index]} {self.texts[index]}".strip()

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


@dataclass(frozen=True)
class QuerySet:
    """The queries of one split with their judgments; order fixed.

    ``qrels`` may be empty: queries without human judgments (a generated query bank, say).
    """

    ids: Sequence[str]
    texts: Sequence[str]
    qrels: Qrels = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def judged(self) -> bool:
        """Whether any query here has human judgments."""
        return bool(self.qrels)

    def take(self, n: int) -> QuerySet:
        """The first ``n`` queries (all, if there are fewer)."""
        ids = list(self.ids[:n])
        return QuerySet(ids, list(self.texts[:n]), {q: self.qrels[q] for q in ids if q in self.qrels})


@dataclass(frozen=True)
class Dataset:
    """A corpus and its query sets. A split that does not exist is absent from ``splits``."""

    name: str
    corpus: Corpus
    splits: Mapping[Split, QuerySet]
    notes: Sequence[str] = ()
    """What a reader of the results must know: splits made here, judgments dropped, and so on."""
