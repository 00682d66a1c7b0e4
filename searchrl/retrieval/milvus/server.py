"""What is asked of a Milvus server, and no more: collections of ours, their rows, two searches, aliases.

Milvus Lite, which is one folder of this machine, is the same to us. Every fault of the server or of the way to it is
one EngineError.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from searchrl.config import IndexConfig
from searchrl.errors import ConfigError, EngineError, reason
from searchrl.extras import needs
from searchrl.retrieval.ranking import FloatArray

MOST = 16_384
"""Documents that Milvus returns for a query at most."""
QUERIES = 64
"""Queries in one call."""
AT_ONCE = 1024
"""Rows read in one call: some 5 MB with vectors and weights, and 130 MB where texts are as long as they can be."""
TEXT_BYTES = 65_535
"""Of a text field, at most."""
SECONDS = 600.0
"""To wait for one answer: the first search after an ingest may build an index."""

QUIET = {"grpc.keepalive_time_ms": 300_000, "grpc.keepalive_permit_without_calls": 0}
"""pymilvus pings every 10 seconds, and a server of gRPC's usual settings hangs up on who does so."""

Hits = list[tuple[NDArray[np.int64], FloatArray]]
"""For each query: documents, best first, and their scores as the server computes them."""
Kind = Literal["FLAT", "HNSW"]


class Server:
    """A connection. Raises ConfigError where the extra is missing, EngineError where nobody answers."""

    def __init__(self, config: IndexConfig) -> None:
        uri = config.index_uri or ""
        if "://" not in uri and not uri.endswith(".db"):
            raise ConfigError(
                f"`index_uri` {uri}: neither a server's address, such as http://127.0.0.1:19530, nor a folder "
                "of Milvus Lite, whose name ends with .db"
            )
        token = os.environ.get(config.index_token_env or "", "")
        if config.index_token_env and not token:
            raise ConfigError(f"`index_token_env` {config.index_token_env}: the environment has no such variable")
        with needs("milvus"):
            import pymilvus
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs every error with its traceback
        self.uri = uri
        self._pymilvus: Any = pymilvus
        with self._said():
            self._client: Any = pymilvus.MilvusClient(uri, token=token, timeout=SECONDS, grpc_options=QUIET)

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except (self._pymilvus.exceptions.MilvusException, OSError, ValueError) as error:
            message = str(getattr(error, "message", "")) or reason(error)
            raise EngineError(
                f"Milvus at {self.uri}: {message}; is it running, and is `index_uri` its address?"
            ) from error

    def close(self) -> None:
        """Close the connection."""
        with self._said():
            self._client.close()

    def collections(self) -> list[str]:
        """Names of all collections."""
        with self._said():
            return list(self._client.list_collections())

    def aliases(self, collection: str) -> list[str]:
        """Names that a collection goes by."""
        with self._said():
            return list(self._client.list_aliases(collection)["aliases"])

    def target(self, alias: str) -> str | None:
        """The collection that an alias names; None where there is no such alias. Its name begins with the alias."""
        ours = (name for name in self.collections() if name.startswith(alias))
        return next((name for name in ours if alias in self.aliases(name)), None)

    def point(self, alias: str, collection: str) -> None:
        """Have an alias name a collection, from one moment to the next."""
        there = self.target(alias) is not None
        with self._said():
            (self._client.alter_alias if there else self._client.create_alias)(collection, alias)

    def unpoint(self, alias: str) -> None:
        """Take an alias away."""
        with self._said():
            self._client.drop_alias(alias)

    def drop(self, collection: str) -> None:
        """Forget a collection, if there is one of the name."""
        with self._said():
            if self._client.has_collection(collection):
                self._client.drop_collection(collection)

    def create(self, collection: str, dim: int, kind: Kind) -> bool:
        """A collection of documents: texts, vectors (dim,), term weights. False where there is one of the name."""
        types = self._pymilvus.DataType
        with self._said():
            if self._client.has_collection(collection):
                if {"vector", "terms"} <= set(self._client.list_indexes(collection)):
                    return False
                self._client.drop_collection(collection)  # its maker was killed before it had indexes, or documents
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", types.INT64, is_primary=True)
            for name in ("key", "title", "text"):
                schema.add_field(name, types.VARCHAR, max_length=TEXT_BYTES)
            schema.add_field("vector", types.FLOAT_VECTOR, dim=dim)
            schema.add_field("terms", types.SPARSE_FLOAT_VECTOR)
            params = self._client.prepare_index_params()
            how = {"M": 16, "efConstruction": 200} if kind == "HNSW" else {}
            params.add_index("vector", index_type=kind, metric_type="IP", params=how)
            params.add_index("terms", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
            self._client.create_collection(
                collection, schema=schema, index_params=params, consistency_level="Strong", timeout=SECONDS
            )
            return True

    def create_pieces(self, collection: str) -> None:
        """An empty collection of numbered pieces of text."""
        types = self._pymilvus.DataType
        self.drop(collection)
        with self._said():
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", types.INT64, is_primary=True)
            schema.add_field("piece", types.VARCHAR, max_length=TEXT_BYTES)
            schema.add_field("vector", types.FLOAT_VECTOR, dim=2)  # Milvus has no collection without
            params = self._client.prepare_index_params()
            params.add_index("vector", index_type="FLAT", metric_type="IP")
            self._client.create_collection(
                collection, schema=schema, index_params=params, consistency_level="Strong", timeout=SECONDS
            )

    def put(self, collection: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows, in the place of those with the same ids: pymilvus repeats a call whose answer was lost, and what is
        inserted twice Milvus keeps twice.
        """
        with self._said():
            self._client.upsert(collection, list(rows), timeout=SECONDS)

    def load(self, collection: str) -> None:
        """Have a collection searched: a server that came back may not have it at hand."""
        with self._said():
            self._client.load_collection(collection, timeout=SECONDS)

    def flush(self, collection: str) -> None:
        """Bring everything to the disk, and into the indexes."""
        with self._said():
            self._client.flush(collection, timeout=SECONDS)

    def count(self, collection: str) -> int:
        """Rows of a collection."""
        with self._said():
            found = self._client.query(collection, filter="", output_fields=["count(*)"], timeout=SECONDS)
            return int(found[0]["count(*)"])

    def rows(self, collection: str, ids: Sequence[int], fields: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Some fields of rows, by id; those that are not there are left out."""
        found: dict[int, dict[str, Any]] = {}
        with self._said():
            for start in range(0, len(ids), AT_ONCE):
                part = list(ids[start : start + AT_ONCE])
                rows = self._client.query(collection, ids=part, output_fields=["id", *fields], timeout=SECONDS)
                found.update((int(row["id"]), row) for row in rows)
        return found

    def search(self, collection: str, field: str, queries: Sequence[Any], limit: int, kind: Kind = "FLAT") -> Hits:
        """The rows with the highest inner product of one field with each query."""
        found: Hits = []
        params = {"ef": max(limit, 64)} if kind == "HNSW" else {}
        with self._said():
            for start in range(0, len(queries), QUERIES):
                for hits in self._client.search(
                    collection,
                    data=list(queries[start : start + QUERIES]),
                    anns_field=field,
                    limit=min(limit, MOST),
                    search_params={"metric_type": "IP", "params": params},
                    timeout=SECONDS,
                ):
                    ids = np.array([hit["id"] for hit in hits], dtype=np.int64)
                    found.append((ids, np.array([hit["distance"] for hit in hits], dtype=np.float32)))
        return found
