"""The examples of ``docs/clients.md`` run as they stand there, with the real clients, against a running service."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from searchrl.extras import MCP, is_installed
from tests.command import REPOSITORY
from tests.service.parts import Running

PAGE = (REPOSITORY / "docs" / "clients.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CLIENTS = ("requests", "cohere", "openai", "mcp")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("corpora"))
    while running.ask("GET", "/readyz")[0] != 200:
        time.sleep(0.01)
    line = {"_id": "1", "title": "sorted", "text": "Return a new sorted list from the items."}
    assert running.ask("PUT", "/corpora/mine", json.dumps(line).encode())[0] == 201
    yield running
    running.stop()


@pytest.mark.parametrize("code", SNIPPETS, ids=range(len(SNIPPETS)))
def test_an_example_runs(code: str, running: Running, tmp_path: Path) -> None:
    client = next(name for name in CLIENTS if re.search(rf"^(import|from) {name}\b", code, re.MULTILINE))
    if not is_installed(MCP if client == "mcp" else client):
        pytest.skip(f"{client} is not installed")
    code = code.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{running.port}")
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
