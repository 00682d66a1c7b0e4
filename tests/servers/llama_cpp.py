"""The llama.cpp server, from the package xllamacpp, in a process of its own that can be killed.

Run as ``python -m tests.servers.llama_cpp FILE PORT KIND`` it serves until its standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["chat", "embedding", "rerank"]


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def llama_cpp(file: Path, kind: Kind = "chat", port: int = 0) -> Iterator[Served]:
    """Serve a GGUF file on loopback, on any free port unless one is named."""
    command = [sys.executable, "-m", "tests.servers.llama_cpp", str(file), str(port), kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().decode().strip()
            assert url.startswith("http://127.0.0.1"), "llama.cpp did not start"
            _wait(url)
            yield Served(url, process)
        finally:
            process.kill()


def _wait(url: str, seconds: float = 30.0) -> None:
    """Until the model is loaded: it answers 503 before."""
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url + "/health").close()
            return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < end, "llama.cpp did not become ready"
            time.sleep(0.05)


def _serve(file: str, port: int, kind: Kind) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = file
    params.model_alias = {"smollm2"}
    params.port = port
    params.n_ctx, params.n_parallel = 8192, 4
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # several spinning threads starve each other
    if kind != "chat":
        params.embedding = True
        params.pooling_type = (
            xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
            if kind == "embedding"
            else xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
        )
    server = xllamacpp.Server(params)
    sys.stdout.write(server.listening_address + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])  # type: ignore[arg-type]
