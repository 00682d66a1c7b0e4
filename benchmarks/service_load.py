"""``python -m benchmarks.service_load``: what the service does in a second on this machine, batched and not.

Starts two services that differ in nothing but ``--max-batch``, indexes the same documents in both, and lets clients
ask one question at a time, each its next when it has its answer. Both take turns, so that what else the machine does
hits both. Clients speak HTTP over bare sockets: a full client library would take as long as the search.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchrl.command import parse, run_command
from searchrl.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from searchrl.data.dataset import Corpus

Ask = Callable[..., Awaitable[tuple[int, bytes]]]

CORPUS = "load"
START_SECONDS = 240.0


@dataclass(frozen=True)
class LoadConfig:
    """Measure latency and throughput of the service on this machine."""

    dataset: str = "pydocs"
    """Whose documents and test queries: pydocs (embedded), a BEIR folder or name."""
    documents: int = 5000
    """Documents at most."""
    checkpoint: Path | None = None
    """Also measure this policy as the agent."""
    clients: tuple[int, ...] = (1, 8, 32)
    """Clients at once."""
    seconds: float = 5.0
    """Time for each figure."""
    rounds: int = 3
    """Turns that the two services take."""
    repeat: bool = False
    """Ask the same queries over and over, as many users do; otherwise each has a number behind it and is asked once."""
    data_dir: Path | None = None
    """Where collections lie and downloads go; $SEARCHRL_DATA if not given."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not (self.clients and min(self.clients) > 0 and self.seconds > 0 and self.documents > 0 and self.rounds > 0):
            raise ConfigError("--clients, --seconds, --rounds and --documents must be above 0")


@dataclass
class Figures:
    """What clients saw."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Requests answered in a second."""
        return self.statuses[200] / self.seconds

    def latency(self, share: float) -> float:
        """The latency that this share of requests stayed within, in seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m benchmarks.service_load``."""
    run_command(_measure, arguments)


def _measure(arguments: Sequence[str]) -> None:
    config = parse(LoadConfig, arguments, "python -m benchmarks.service_load")
    from searchrl.data.load import load_dataset

    dataset = load_dataset(config.dataset, data_dir=config.data_dir)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl-C does, it stops the services
    texts, n = dataset.splits["test"].texts, min(config.documents, len(dataset.corpus))
    queries = cycle(texts) if config.repeat else (f"{texts[i % len(texts)]} {i}" for i in count())
    _say(f"{n} documents of {dataset.name}, {len(texts)} queries{'' if config.repeat else ', numbered'}")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        index(folder / "batched", dataset.corpus, n)
        shutil.copytree(folder / "batched", folder / "single")
        batched = stack.enter_context(served(folder / "batched", config.checkpoint))
        single = stack.enter_context(served(folder / "single", config.checkpoint, "--max-batch", "1"))
        _say(f"{'strategy':12}{'clients':>8}{'batches':>9}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}  statuses")
        for strategy in ("single_pass", "agent") if config.checkpoint else ("single_pass",):
            for clients in config.clients:
                figures = {"to 32": Figures(), "of 1": Figures()}
                for _ in range(config.rounds):
                    for figure, port in zip(figures.values(), (batched, single), strict=True):
                        asyncio.run(ask(port, strategy, queries, clients, config.seconds / config.rounds, figure))
                for kind, f in figures.items():
                    times = f"{1e3 * f.latency(0.5):9.1f}{1e3 * f.latency(0.99):9.1f}"
                    _say(f"{strategy:12}{clients:8}{kind:>9}{f.rate:12.1f}{times}  {dict(f.statuses)}")


@contextmanager
def served(corpora: Path, checkpoint: Path | None = None, *flags: str) -> Iterator[int]:
    """A service in a process of its own, as a user starts it; gives its port. Raises ModelError where it ends early."""
    command = [sys.executable, "-m", "searchrl.cli.serve", "--port", "0", "--corpora", str(corpora), *flags]
    command += ["--checkpoint", str(checkpoint)] if checkpoint else []
    environment = {name: value for name, value in os.environ.items() if name != "SEARCHRL_TOKEN"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL, env=environment)
        try:
            yield _port(process, log)
        finally:
            process.terminate()
            process.wait()


def _port(process: subprocess.Popen[bytes], log: Any) -> int:
    """The port that the service's log names, once it listens."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        log.seek(0)
        if found := re.search(r"running on http://[^ ]*:(\d+)", log.read()):
            return int(found[1])
        time.sleep(0.05)
    log.seek(0)
    raise ModelError(f"the service did not start: {log.read()[-500:]}")


async def ask(port: int, strategy: str, queries: Iterator[str], clients: int, seconds: float, figures: Figures) -> None:
    """Let clients ask for some seconds, once the service is ready; adds what they saw to ``figures``."""
    async with connection(port) as ready:
        while (await ready("GET", "/readyz"))[0] != 200:
            await asyncio.sleep(0.05)
    end = time.perf_counter() + seconds

    async def client() -> None:
        async with connection(port) as ask:
            while (started := time.perf_counter()) < end:
                body = {"corpus": CORPUS, "queries": [next(queries)], "strategy": strategy}
                status, _ = await ask("POST", "/search", json.dumps(body).encode())
                figures.statuses[status] += 1
                if status == 429:  # the least that Retry-After says
                    await asyncio.sleep(1.0)
                else:
                    figures.latencies.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    figures.seconds += time.perf_counter() - started


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[Ask]:
    """An open connection to the service: a function of method, path and body, to be awaited for status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask(method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"\r\ncontent-length: (\d+)", answer, re.IGNORECASE)
        return int(answer.split(" ", 2)[1]), await reader.readexactly(int(length[1]) if length else 0)

    try:
        yield ask
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def index(folder: Path, corpus: Corpus, n: int) -> None:
    """Index the first n documents as an upload does, with vectors from the cache where they were made before."""
    from searchrl.data.dataset import Corpus
    from searchrl.files import cache_dir
    from searchrl.models.encoder import Encoder
    from searchrl.retrieval.dense import build_dense_index
    from searchrl.service.corpora import CorpusStore

    documents = list(zip(corpus.ids[:n], corpus.titles[:n], corpus.texts[:n], strict=True))
    part, encoder = Corpus(corpus.ids[:n], corpus.titles[:n], corpus.texts[:n]), Encoder()
    vectors = build_dense_index(part, encoder, cache_dir(), show_progress=True).vectors
    store = CorpusStore(folder, encoder)
    writer = store.begin(CORPUS)
    writer.add(documents, vectors)
    store.publish(CORPUS, writer)
    store.close()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
