"""``python -m benchmarks.service_siege``: what the service does under many, slow, half-open and dying clients.

In one run: 128 clients a strategy, the process's memory before and after; one plain client beside 32 agent clients;
500 half-open connections and a body of 5,000 x 5,000 pairs while somebody asks ``/healthz``; ``kill -9`` under search
load and in the middle of an upload, after which the corpus must be whole.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from benchmarks.service_load import CORPUS, Figures, _port, ask, connection, index
from searchrl.command import parse, run_command


@dataclass(frozen=True)
class SiegeConfig:
    """Besiege the service on this machine."""

    dataset: str = "pydocs"
    """Whose documents and test queries: pydocs (embedded), a BEIR folder or name."""
    documents: int = 5000
    """Documents at most."""
    checkpoint: Path = Path("checkpoints/pydocs.pt")
    """The policy of the agent."""
    clients: int = 128
    """Clients at once, each strategy."""
    agents: int = 32
    """Agent clients beside the plain one."""
    seconds: float = 60.0
    """Time for each figure."""
    kills: int = 40
    """Times that the service is killed, under search load and in mid-upload each."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m benchmarks.service_siege``."""
    run_command(_besiege, arguments)


def _besiege(arguments: Sequence[str]) -> None:
    config = parse(SiegeConfig, arguments, "python -m benchmarks.service_siege")
    from searchrl.data.load import load_dataset

    dataset = load_dataset(config.dataset)
    queries, n = dataset.splits["test"].texts, min(config.documents, len(dataset.corpus))
    _say(f"{n} documents of {dataset.name}, {len(queries)} queries; load before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name) / "corpora"
        index(folder, dataset.corpus, n)
        with _served(folder, config.checkpoint) as (_, port):
            agents, plain = asyncio.run(_beside(port, queries, config))
            _say(f"{config.agents} agent clients: {_said(agents)}")
            _say(f"one plain client beside them: {_said(plain)}")
            slowest = stack.enter_context(_half_open(port, 500)) and asyncio.run(_healthz(port))
            _say(f"500 half-open connections and 5,000 x 5,000 pairs: /healthz within {1e3 * slowest:.0f} ms")
        for when, upload in (("under search load", False), ("in mid-upload", True)):
            _say(f"kill -9 {when}: {_killed(queries, config.kills, upload)} of {config.kills} whole")
        with _served(folder, config.checkpoint) as (process, port):
            asyncio.run(ask(port, "single_pass", cycle(queries), 8, 5.0, Figures()))
            for strategy in ("single_pass", "agent"):
                before, figures = _memory(process), Figures()
                asyncio.run(ask(port, strategy, cycle(queries), config.clients, config.seconds, figures))
                _say(f"{config.clients} clients, {strategy}: {_said(figures)}")
                _say(f"memory: {before} MB before, {_memory(process)} MB after")
    _say(f"load after: {os.getloadavg()[0]:.1f}")


@contextmanager
def _served(corpora: Path, checkpoint: Path | None = None) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    command = [sys.executable, "-m", "searchrl.cli.serve", "--port", "0", "--corpora", str(corpora)]
    command += ["--checkpoint", str(checkpoint)] if checkpoint else []
    command += ["--no-cache"]  # or what was judged in training would not be judged again
    environment = {name: value for name, value in os.environ.items() if name != "SEARCHRL_TOKEN"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL, env=environment)
        try:
            yield process, _port(process, log)
        finally:
            process.terminate()
            process.wait()


async def _beside(port: int, queries: Sequence[str], config: SiegeConfig) -> tuple[Figures, Figures]:
    agents, plain = Figures(), Figures()
    await ask(port, "single_pass", cycle(queries), 1, 2.0, Figures())
    await asyncio.gather(
        ask(port, "agent", cycle(queries), config.agents, config.seconds, agents),
        ask(port, "single_pass", cycle(queries), 1, config.seconds, plain),
    )
    return agents, plain


@contextmanager
def _half_open(port: int, count: int) -> Iterator[bool]:
    with ExitStack() as stack:
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        yield True


async def _healthz(port: int) -> float:
    """The slowest of many answers in ten seconds, a huge body coming meanwhile."""
    words = [str(i) for i in range(5000)]
    body, slowest, done = json.dumps({"queries": words, "keys": words}).encode(), 0.0, False

    async def huge() -> None:
        while not done:
            async with connection(port) as large:
                assert (await large("POST", "/relevance", body))[0] == 422
            await asyncio.sleep(0.2)

    asking = asyncio.create_task(huge())
    for _ in range(100):
        started = time.perf_counter()
        async with connection(port) as watch:
            assert (await watch("GET", "/healthz"))[0] == 200
        slowest = max(slowest, time.perf_counter() - started)
        await asyncio.sleep(0.1)
    done = True
    await asking
    return slowest


def _killed(queries: Sequence[str], times: int, upload: bool) -> int:
    """How often the corpus was whole after its service was killed."""
    whole, server = 0, Path(__file__).parents[1] / "tests" / "service" / "serve.py"
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        content = "".join(json.dumps({"_id": f"d{i}", "text": queries[i % len(queries)]}) + "\n" for i in range(500))
        for turn in range(times + 1):
            process = subprocess.Popen([sys.executable, str(server), str(place)], stdout=subprocess.PIPE, text=True)
            assert process.stdout
            port = int(process.stdout.readline())
            whole += asyncio.run(_one_life(port, content.encode(), upload, turn))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
    return whole


async def _one_life(port: int, content: bytes, upload: bool, turn: int) -> bool:
    """Ask what is there, then be busy until the kill; whether the corpus was whole (the first life makes it)."""
    async with connection(port) as asking:
        while (await asking("GET", "/readyz"))[0] != 200:
            await asyncio.sleep(0.01)
        if turn == 0:
            await asking("PUT", f"/corpora/{CORPUS}", content)
        status, facts = await asking("GET", f"/corpora/{CORPUS}")
        body = json.dumps({"corpus": CORPUS, "queries": ["what"]}).encode()
        found = await asking("POST", "/search", body)
    tasks = []
    if upload:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"PUT /corpora/{CORPUS} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content[: len(content) * (turn % 11) // 10])
        await writer.drain()
    else:
        tasks = [asyncio.create_task(_searching(port, body)) for _ in range(8)]
    await asyncio.sleep(0.01 * (turn % 20))
    for task in tasks:
        task.cancel()
    return turn > 0 and status == 200 and json.loads(facts)["documents"] == 500 and found[0] == 200


async def _searching(port: int, body: bytes) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        async with connection(port) as asking:
            while True:
                await asking("POST", "/search", body)


def _memory(process: subprocess.Popen[bytes]) -> int:
    """Resident MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) // 1000


def _said(figures: Figures) -> str:
    p50, p99 = 1e3 * figures.latency(0.5), 1e3 * figures.latency(0.99)
    return f"{figures.rate:.1f} requests/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms, {dict(figures.statuses)}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
