"""What a collection in Milvus says about itself: which corpus, which encoder, the vocabulary with its frequencies.

One JSON text, compressed, in pieces that fit text fields, in a collection beside that of the documents.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from searchrl.errors import CacheError, reason
from searchrl.files import load_json
from searchrl.retrieval.milvus.server import Kind, Server
from searchrl.retrieval.streamed import TermStatistics

VERSION = 1
PIECE = 60_000
"""Letters."""
LONGEST = -1
"""The row that has the largest norm."""
AT_ONCE = 64
"""Pieces in one call: 4 MB."""


@dataclass(frozen=True)
class Facts:
    """Of one collection."""

    name: str
    """What people call it."""
    corpus: str
    """The corpus's fingerprint."""
    encoder: str
    """The encoder's fingerprint."""
    dim: int
    kind: Kind
    """How vectors are searched."""
    longest: float
    """The largest norm of a vector."""
    statistics: TermStatistics


def beside(collection: str) -> str:
    """The collection that has the facts of another."""
    return f"{collection}_facts"


def write_facts(server: Server, collection: str, facts: Facts) -> None:
    """Write them in the place of what may be there."""
    statistics = asdict(facts.statistics) | {"frequencies": facts.statistics.frequencies.tolist()}
    text = json.dumps({"version": VERSION, **asdict(facts), "statistics": statistics})
    packed = base64.b64encode(zlib.compress(text.encode("utf-8", "surrogatepass"))).decode()
    pieces = [packed[start : start + PIECE] for start in range(0, len(packed), PIECE)]
    server.create_pieces(beside(collection))
    rows = [{"id": i, "piece": piece, "vector": [float(len(pieces)), 0.0]} for i, piece in enumerate(pieces)]
    for start in range(0, len(rows), AT_ONCE):
        server.put(beside(collection), rows[start : start + AT_ONCE])
    server.flush(beside(collection))


def write_longest(server: Server, collection: str, longest: float) -> None:
    """The largest norm of a vector so far, which is not known when the facts are written."""
    server.put(beside(collection), [{"id": LONGEST, "piece": repr(longest), "vector": [0.0, 0.0]}])


def read_facts(server: Server, collection: str) -> Facts:
    """Raises CacheError where they are not what was written."""
    try:
        begin = server.rows(beside(collection), [0, LONGEST], ["piece", "vector"])
        count = int(begin[0]["vector"][0])
        pieces: dict[int, Any] = {}
        for start in range(0, count, AT_ONCE):
            pieces |= server.rows(beside(collection), range(start, min(start + AT_ONCE, count)), ["piece"])
        packed = "".join(pieces[i]["piece"] for i in range(count))
        values = load_json(zlib.decompress(base64.b64decode(packed)).decode("utf-8", "surrogatepass"))
        if values.pop("version") != VERSION:
            raise CacheError(f"{server.uri}, {collection}: written by another version of SearchRL; index it again")
        statistics = values.pop("statistics")
        if LONGEST in begin:
            values["longest"] = float(begin[LONGEST]["piece"])
        statistics["frequencies"] = np.array(statistics["frequencies"], dtype=np.int64)
        return Facts(**values, statistics=TermStatistics(**statistics))
    except (KeyError, ValueError, TypeError, zlib.error, IndexError) as error:
        raise CacheError(
            f"{server.uri}, {collection}: its facts are damaged ({reason(error)}); drop it, and index the corpus again"
        ) from error
