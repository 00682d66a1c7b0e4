"""Documents that stay on the disk: a corpus's ids, titles and texts are read when they are asked for.

Whoever goes through a corpus reads it a block at a time; whoever asks for one document reads that one.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, overload

from searchrl.data.dataset import Corpus, joined
from searchrl.data.records import Document, document_of, documents
from searchrl.errors import DataError, reason

BLOCK = 900
"""Documents that are read together: SQLite builds before 3.32 take no more than 999 placeholders."""


class DocumentReader(Protocol):
    """Reads documents by their position in the corpus, from any thread."""

    def __len__(self) -> int: ...

    def get(self, positions: Iterable[int]) -> Mapping[int, Document]:
        """Documents by their position; positions past the end are left out."""
        ...


def stored_corpus(stored: DocumentReader, ids: Sequence[str] | None = None) -> Corpus:
    """Documents as everything else reads them. ids: where they are in memory all the same."""
    block = lru_cache(maxsize=1)(lambda start: stored.get(range(start, start + BLOCK)))
    found, titles, texts = (_Column(stored, block, place) for place in range(3))
    return StoredCorpus(found if ids is None else ids, titles, texts, stored=stored)


@dataclass(frozen=True)
class StoredCorpus(Corpus):
    """Such documents; some of them are read together."""

    stored: DocumentReader = field(kw_only=True)

    def full_texts(self, indices: Iterable[int] | None = None) -> Sequence[str]:
        """See ``Corpus.full_texts``."""
        if indices is None:
            return super().full_texts()
        wanted = list(indices)
        found = self.stored.get(wanted)
        return [joined(*found[i][1:]) for i in wanted]


class _Column(Sequence[str]):
    """All ids, titles or texts. block: reads many; its last result serves the columns that are read side by side."""

    def __init__(self, stored: DocumentReader, block: Callable[[int], Mapping[int, Document]], place: int) -> None:
        self._stored, self._block, self._place = stored, block, place

    def __len__(self) -> int:
        return len(self._stored)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        wanted = range(len(self))[index]
        if isinstance(wanted, range):
            found = self._stored.get(wanted)
            return [found[i][self._place] for i in wanted]
        return self._stored.get([wanted])[wanted][self._place]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK):
            found = self._block(start)
            for i in range(start, min(start + BLOCK, len(self))):
                yield found[i][self._place]


class LineDocuments:
    """The documents of a ``corpus.jsonl``, each read from its line. Takes 20 bytes a document, and the ids.

    Goes through the file once, and raises what ``documents`` raises. The file is to stay as it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self.ids: list[str] = []
        self._starts, self._lengths, self._sums = array("q"), array("q"), array("I")
        for line, (document_id, _, _) in documents(path):
            raw = line.text.encode()
            self.ids.append(document_id)
            self._starts.append(line.start)
            self._lengths.append(len(raw))
            self._sums.append(zlib.crc32(raw))

    def __len__(self) -> int:
        return len(self.ids)

    def get(self, positions: Iterable[int]) -> dict[int, Document]:
        """Documents by their position. Raises DataError where the file is not there, or not what it was."""
        found: dict[int, Document] = {}
        try:
            with self._path.open("rb") as file:
                for place in sorted({int(p) for p in positions if p < len(self)}):
                    file.seek(self._starts[place])
                    line = file.read(self._lengths[place])
                    if zlib.crc32(line) != self._sums[place]:
                        raise DataError(
                            f"{self._path}: the line of document {self.ids[place]!r} is not what it was when the "
                            "corpus was opened; leave the file as it is, and start again"
                        )
                    found[place] = document_of(line)
        except OSError as error:
            raise DataError(f"{self._path}: cannot be read any more ({reason(error)}); start again") from error
        return found

    def corpus(self) -> Corpus:
        """Ids in memory, titles and texts on the disk."""
        return stored_corpus(self, self.ids)
