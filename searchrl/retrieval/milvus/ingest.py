"""Bring a corpus into Milvus: block by block, each document under its place in the corpus.

The collection's name tells what is in it, so an ingest that was killed, here or on the server, goes on with the first
block that is not there, and counts no word again. When the last is there, the facts are complete and the alias is set,
which is one step: whoever searches sees the old documents or the new, and never a part.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.errors import CacheError, EngineError
from searchrl.progress import progress_bar
from searchrl.retrieval.analysis import Analyser
from searchrl.retrieval.milvus.facts import VERSION, Facts, beside, read_facts, write_facts, write_longest
from searchrl.retrieval.milvus.server import TEXT_BYTES, Kind, Server
from searchrl.retrieval.ranking import FloatArray
from searchrl.retrieval.streamed import TermStatistics, count_terms

logger = logging.getLogger(__name__)

BLOCK = 1024
"""Documents that are encoded together, and stand or fall together: what a kill loses at most."""
ROWS = 256
"""Documents in one call: at most some 17 MB of text."""

Vectors = Callable[[range], FloatArray]
"""Vectors (len(places), dim) of the documents at these places, the same whenever they are asked for."""


def collection_name(alias: str, corpus: str, encoder: str, kind: Kind) -> str:
    """The collection in which these very documents are, with vectors of this encoder."""
    digest = hashlib.sha256(f"{VERSION}\0{corpus}\0{encoder}\0{kind}".encode()).hexdigest()[:16]
    return f"{alias}_{digest}"


def ingest(
    server: Server,
    alias: str,
    name: str,
    corpus: Corpus,
    vectors: Vectors,
    *,
    encoder: str,
    dim: int,
    kind: Kind,
    show_progress: bool = False,
) -> str:
    """Put a corpus under an alias, in the place of what the alias named before; returns its collection.

    name: what people call it. Raises EngineError where the server fails, or lacks documents in the end.
    """
    collection = collection_name(alias, corpus.fingerprint, encoder, kind)
    analyser = Analyser()
    begun = not server.create(collection, dim, kind)
    server.load(collection)
    facts = _begun(server, collection) if begun else None
    blocks = [range(start, min(start + BLOCK, len(corpus))) for start in range(0, len(corpus), BLOCK)]
    lacking = blocks
    if facts is None:
        with progress_bar(len(corpus), "count words", "text", show=show_progress) as bar:
            statistics = count_terms(analyser, _counted(corpus, bar))
        facts = Facts(name, corpus.fingerprint, encoder, dim, kind, 0.0, statistics)
        write_facts(server, collection, facts)
    else:
        ends = server.rows(collection, [places[-1] for places in blocks], [])
        lacking = [places for places in blocks if places[-1] not in ends]
    longest = facts.longest

    def bring(blocks: Sequence[range]) -> int:
        nonlocal longest
        there = len(corpus) - sum(map(len, blocks))
        with progress_bar(len(corpus), "index documents", "text", show=show_progress, initial=there) as bar:
            for places in blocks:
                block = vectors(places)
                longest = max(longest, float(np.linalg.norm(block, axis=1).max(initial=0.0)))
                write_longest(server, collection, longest)  # before the documents that it is of
                rows = _rows(corpus, places, block, facts.statistics, analyser)
                for first in range(0, len(rows), ROWS):
                    server.put(collection, rows[first : first + ROWS])
                bar.update(len(places))
        server.flush(collection)
        return server.count(collection)

    there = bring(lacking)
    if there != len(corpus):  # something is missing in the middle
        there = bring([places for places in blocks if len(server.rows(collection, places, [])) < len(places)])
    if there != len(corpus):
        raise EngineError(f"Milvus at {server.uri}: {there} of {len(corpus)} documents are there; index them again")
    before = server.target(alias)
    server.point(alias, collection)
    if before not in (None, collection):
        forget(server, str(before))
    return collection


def forget(server: Server, collection: str) -> None:
    """Drop a collection of documents, and its facts."""
    server.drop(collection)
    server.drop(beside(collection))


def _counted(corpus: Corpus, bar: Any) -> Iterator[str]:
    for text in corpus.full_texts():
        yield text
        bar.update()


def _begun(server: Server, collection: str) -> Facts | None:
    """What an ingest that was killed had counted; None where it had not."""
    try:
        server.load(beside(collection))
        return read_facts(server, collection)
    except (CacheError, EngineError):
        return None


def _rows(
    corpus: Corpus, places: range, vectors: FloatArray, statistics: TermStatistics, analyser: Analyser
) -> list[dict[str, Any]]:
    ids, titles, texts = (column[places.start : places.stop] for column in (corpus.ids, corpus.titles, corpus.texts))
    if long := sum(len(text) > TEXT_BYTES // 4 and len(text.encode("utf-8", "replace")) > TEXT_BYTES for text in texts):
        logger.warning("%d texts are longer than Milvus's %d bytes: they are kept without their ends", long, TEXT_BYTES)
    weights = statistics.weights(analyser, [f"{t} {x}".strip() for t, x in zip(titles, texts, strict=True)])
    nothing = len(statistics.vocabulary)  # Milvus takes no vector without a number
    rows = []
    for i, place in enumerate(places):
        cells = slice(weights.indptr[i], weights.indptr[i + 1])
        terms = dict(zip(weights.indices[cells].tolist(), weights.data[cells].tolist(), strict=True))
        written = {"key": _fitting(ids[i]), "title": _fitting(titles[i]), "text": _fitting(texts[i])}
        rows.append({"id": place, **written, "vector": vectors[i], "terms": terms or {nothing: 1.0}})
    return rows


def _fitting(text: str) -> str:
    """A text that a field can hold: valid Unicode, and so many bytes at most."""
    return text.encode("utf-8", "replace")[:TEXT_BYTES].decode("utf-8", "ignore")
