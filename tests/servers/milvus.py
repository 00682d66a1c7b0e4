"""Milvus Lite's server on loopback: it speaks the protocol of Milvus Standalone and Distributed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


class MilvusServer:
    """A server process over a folder. ``kill`` it as hard as can be, ``start`` it again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when the server listens."""
        arguments = ["server", "--data-dir", str(self._folder), "--host", "127.0.0.1", "--port", str(self._port)]
        run = "import sys; from milvus_lite.cmdline import main; sys.exit(main())"
        with (self._folder.parent / "milvus.log").open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-c", run, *arguments], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("Milvus Lite did not start")

    def kill(self) -> None:
        """End the process without a word."""
        if self._process:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
