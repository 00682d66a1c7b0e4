"""Clients that keep others out: half-open, slow, many, large. Everybody else is answered as if they were not there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.service_load import connection
from searchrl.cli import serve
from searchrl.service import ServerConfig
from searchrl.service.connections import bind
from tests.command import _fresh_logging
from tests.service.parts import Running, client, jsonl

pytestmark = pytest.mark.skipif(os.name == "nt", reason="limits and signals of POSIX systems")


def descriptors(count: int) -> Callable[[], None]:
    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))

    return limit


def ready(running: Running) -> Running:
    while running.ask("GET", "/readyz")[0] != 200:
        time.sleep(0.01)
    return running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    with contextlib.ExitStack() as stack:

        def begin(**settings: Any) -> Running:
            log = stack.enter_context((tmp_path / "log").open("w"))
            running = Running(tmp_path / "corpora", log=log, **settings)
            stack.callback(running.stop)
            return ready(running)

        yield begin


def half_open(port: int, count: int, begin: bytes = b"GET /healthz HTTP/1.1\r\nHost: ") -> list[socket.socket]:
    opened = []
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(begin)
        opened.append(one)
    return opened


def seconds_for(running: Running, path: str = "/healthz") -> float:
    started = time.perf_counter()
    assert running.ask("GET", path)[0] == 200
    return time.perf_counter() - started


@pytest.mark.parametrize("begin", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: "])
def test_half_open_connections_keep_nobody_out(start: Callable[..., Running], tmp_path: Path, begin: bytes) -> None:
    running = start(before=descriptors(512))
    opened = half_open(running.port, 500, begin)
    try:
        assert max(seconds_for(running) for _ in range(5)) < 0.5
    finally:
        for one in opened:
            one.close()
    assert (tmp_path / "log").stat().st_size < 20_000


def test_a_client_has_so_long_to_ask(start: Callable[..., Running]) -> None:
    running = start(header_timeout=0.5, body_timeout=0.5)
    (silent,) = half_open(running.port, 1)
    silent.settimeout(5)
    with silent:
        assert silent.recv(100) == b""
    (slow,) = half_open(running.port, 1, b"POST /embed HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
    slow.settimeout(5)
    with slow:
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_a_byte_now_and_then_keeps_no_connection(start: Callable[..., Running]) -> None:
    running = start(header_timeout=0.6)
    (drip,) = half_open(running.port, 1, b"G")
    started = time.perf_counter()
    with drip, contextlib.suppress(ConnectionError):
        for byte in b"ET /healthz HTTP/1.1" * 20:
            drip.sendall(bytes([byte]))
            time.sleep(0.05)
    assert time.perf_counter() - started < 5


def test_a_slow_upload_holds_up_no_other(start: Callable[..., Running]) -> None:
    running = start()
    head = b"PUT /corpora/slow HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"
    (slow,) = half_open(running.port, 1, head)
    with slow:
        time.sleep(0.2)
        assert running.ask("PUT", "/corpora/quick", jsonl("one", "two").encode())[0] == 201


def test_an_upload_slower_than_it_may_be_is_given_up(start: Callable[..., Running]) -> None:
    running = start(upload_timeout=0.5, upload_rate=1000)
    head = b"PUT /corpora/slow HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"
    (slow,) = half_open(running.port, 1, head)
    slow.settimeout(0.2)
    started, answer = time.perf_counter(), b""
    with slow:
        while not answer and time.perf_counter() - started < 10:
            with contextlib.suppress(ConnectionError):
                slow.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                answer = slow.recv(100)
    assert answer.startswith(b"HTTP/1.1 408")


def test_stopping_waits_for_no_unfinished_body(start: Callable[..., Running], tmp_path: Path) -> None:
    running = start()
    head = b"Host: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"
    opened = [
        *half_open(running.port, 1, b"PUT /corpora/slow HTTP/1.1\r\n" + head),
        *half_open(running.port, 1, b"POST /embed HTTP/1.1\r\n" + head),
        *half_open(running.port, 1),
        *half_open(running.port, 1, b""),
    ]
    time.sleep(0.3)
    started = time.perf_counter()
    running.stop(signal.SIGTERM)
    assert time.perf_counter() - started < 5
    assert running.process.returncode in (0, -signal.SIGTERM)
    for one in opened:
        one.close()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_many_pairs_are_counted_before_there_is_a_list_of_them(start: Callable[..., Running]) -> None:
    running = start(max_items=1000)
    words = [str(i) for i in range(5000)]
    for path in ("/relevance", "/search"):
        body = json.dumps({"queries": words, "keys": words}).encode()
        started = time.perf_counter()
        status, answer = running.ask("POST", path, body)
        assert status == 422
        assert "25000000 items" in str(answer)
        assert time.perf_counter() - started < 1
    with open(f"/proc/{running.process.pid}/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    assert peak < 1_500_000, "kB"


@pytest.mark.parametrize(
    "body",
    [
        {"texts": [0] * 60_000},
        {"texts": [{}] * 60_000},
        {"texts": {str(i): i for i in range(20_000)}},
        {f"field{i}": 1 for i in range(15_000)},
        {"texts": "x" * 190_000},
        [[]] * 60_000,
    ],
)
def test_a_wrong_body_is_answered_in_few_words(tmp_path: Path, body: Any) -> None:
    with client(tmp_path) as asking:
        started = time.perf_counter()
        answer = asking.post("/embed", json=body)
        assert answer.status_code == 422
        assert len(answer.content) < 5000
        assert 1 <= len(answer.json()["detail"]) <= 10
        assert time.perf_counter() - started < 1.0


def test_a_full_disk_is_said(start: Callable[..., Running], tmp_path: Path) -> None:
    def small_files() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    running = start(before=small_files)
    assert running.ask("PUT", "/corpora/small", jsonl("one").encode())[0] == 201
    large = jsonl(*(f"document number {i} " * 20 for i in range(500)))
    status, answer = running.ask("PUT", "/corpora/small", large.encode())
    assert status == 507, answer
    several = jsonl(*(f"{i}" for i in range(1100)))  # fits aside, not with its vectors
    status, answer = running.ask("PUT", "/corpora/small", several.encode())
    assert status == 507, answer
    assert running.ask("GET", "/corpora/small")[1]["documents"] == 1
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert sorted(path.name for path in (tmp_path / "corpora").iterdir()) == [".lock", "small@00000001"]


def test_every_answer_tells_browsers_what_it_is_for(tmp_path: Path) -> None:
    with client(tmp_path) as asking:
        for path in ("/", "/docs", "/openapi.json", "/healthz", "/nowhere", "/metrics"):
            headers = asking.get(path).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("token", ["two words", "söme", "tab\t", "new\nline", 'quo"te'])
def test_a_token_that_nobody_can_send(
    token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEARCHRL_TOKEN", token)
    with _fresh_logging(), pytest.raises(SystemExit) as stop:
        serve.main(["--corpora", str(tmp_path)])
    assert stop.value.code == 2
    assert "holds a token that no client can send" in capsys.readouterr().err


def test_a_port_in_use_is_noticed_before_models_are_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEARCHRL_TOKEN", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken, _fresh_logging(), pytest.raises(SystemExit) as stop:
        serve.main(["--port", str(taken.getsockname()[1]), "--corpora", str(tmp_path / "corpora"), "--device", "gpu"])
    assert stop.value.code == 2
    assert "cannot listen there (Address already in use)" in capsys.readouterr().err
    assert not (tmp_path / "corpora").exists()


def test_a_host_that_is_none() -> None:
    from searchrl.errors import ConfigError

    for host in ("no.such.host.invalid", "a" * 300, "192.0.2.1", "\ud800"):
        with pytest.raises(ConfigError, match="`host`"):
            bind(ServerConfig(host=host)).close()


def test_killed_while_an_upload_comes_nothing_is_lost(tmp_path: Path) -> None:
    async def half(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PUT /corpora/kept HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n")
        writer.write(jsonl(*(f"new {i}" for i in range(50))).encode())
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    async def put(port: int) -> int:
        async with connection(port) as ask:
            return (await ask("PUT", "/corpora/kept", jsonl("one", "two").encode()))[0]

    for turn in range(3):
        running = ready(Running(tmp_path))
        if not turn:
            assert asyncio.run(put(running.port)) == 201
        asyncio.run(half(running.port))
        running.stop(signal.SIGKILL)
    with client(tmp_path) as asking:
        assert asking.get("/corpora/kept").json()["documents"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "kept@00000001"]
