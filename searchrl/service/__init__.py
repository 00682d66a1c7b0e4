"""The HTTP service, ``searchrl serve``: its settings, which are its flags. ``routes.py`` lists what it answers to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from searchrl.checks import at_least, between
from searchrl.config import ModelConfig
from searchrl.errors import ConfigError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
RetrieveForm = Literal["search-r1", "zerosearch", "rllm"]


@dataclass(frozen=True)
class LimitConfig:
    """What a client may ask for; past it, the answer is 413, 422 or 429."""

    max_body: int = 2_000_000
    """Bytes of a request, uploads of corpora aside."""
    max_items: int = 1024
    """Texts, prompts, queries or (query, key) pairs of one request."""
    max_rollout: int = 4096
    """Queries of one request to /retrieve, whose body may have 4,000 bytes for each."""
    max_queue: int = 4096
    """Items that may wait to be worked on, all requests together; past it, 429."""
    max_batch: int = 32
    """Items, of however many requests, that a model works on together."""
    max_corpus: int = 2_000_000_000
    """Bytes of one upload."""
    max_documents: int = 1_000_000
    """Documents of one corpus."""
    max_uploads: int = 8
    """Uploads on their way at a time; past it, 429."""
    upload_timeout: float = 60.0
    """Seconds that an upload may pause."""
    upload_rate: int = 10_000
    """Bytes in a second that an upload has to bring, on average, after that time; slower ones are given up."""
    max_connections: int = 512
    """Connections at a time; past it, the one that has been quiet for longest is closed."""
    header_timeout: float = 10.0
    """Seconds that a client has for the head of a request."""
    body_timeout: float = 30.0
    """Seconds that a client has for the body of a request, uploads aside."""
    read_timeout: float = 60.0
    """Seconds that a client may leave an answer unread."""
    max_wait: float = 30.0
    """Seconds that new work may be expected to wait for the models; past it, 429, which says when to come again."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not 0 < getattr(self, name) < 1e15:  # not NaN either
                raise ConfigError(f"`{name}` {getattr(self, name)}: must be above 0, and finite")
        if self.max_items > self.max_queue:
            raise ConfigError(
                f"max_items {self.max_items} is more than max_queue {self.max_queue}, so that the largest requests "
                "would always be refused; raise max_queue"
            )


@dataclass(frozen=True)
class ServerConfig:
    """Serve search, relevance, embeddings and text over HTTP or to assistants, and corpora indexed once. A folder of
    searchrl tune, given first, is served as it is.
    """

    host: str = "127.0.0.1"
    """Address to listen on; only this machine can reach the default. 0.0.0.0: every network there is."""
    allow_host: tuple[str, ...] = ()
    """Further names that a request's Host header may give where --host is of this machine: a proxy's, say. Others are
    refused, so that no web page reaches the service under a name of its own (DNS rebinding)."""
    port: int = 8000
    """Port to listen on; 0: a free one, which the log names."""
    corpora: Path = Path("runs/corpora")
    """Where indexed corpora are kept."""
    corpus: str | None = None
    """The corpus that /retrieve and /mcp search where a request names none; if not given, the only one there is."""
    retrieve_form: RetrieveForm = "search-r1"
    """How /retrieve answers a single query; lists of queries are answered as Search-R1, verl and slime expect it."""
    checkpoint: Path | None = None
    """A policy that train.py wrote, for "strategy": "agent"."""
    token_env: str = "SEARCHRL_TOKEN"
    """Environment variable that holds the bearer token every client has to send; unset: none is asked for."""
    replicas: int = 1
    """Copies of the service behind one proxy, by Ray Serve; needs --ray. They serve --read-only."""
    read_only: bool = False
    """Serve the corpora as they are, which other services may do, too; none is indexed or deleted."""
    shutdown_timeout: int = 60
    """Seconds in which a stopped service finishes what it took."""
    models: ModelConfig = field(default_factory=ModelConfig)
    limits: LimitConfig = field(default_factory=LimitConfig)

    def __post_init__(self) -> None:
        between("port", self.port, 0, 65535)
        at_least("shutdown_timeout", self.shutdown_timeout, 0)
        at_least("replicas", self.replicas, 1, 10_000)
        if self.replicas > 1 and not self.models.cluster.ray:
            raise ConfigError(
                f"`replicas` {self.replicas} needs `ray`: local, auto, or a cluster's address; without Ray, start "
                "several services with `read_only` behind a load balancer"
            )

    @property
    def hosts(self) -> frozenset[str]:
        """Names that a Host header may give; empty for any."""
        return frozenset({*LOOPBACK_NAMES, self.host, *map(str.lower, self.allow_host)} if self.on_loopback else ())

    @property
    def on_loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
