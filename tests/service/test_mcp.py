"""The service's tools by the Model Context Protocol, asked by the client of its official SDK."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.bench import Bench
from searchrl.command import parse
from searchrl.config import GameConfig, ModelConfig, TrainConfig
from searchrl.search.corpus import Agent
from searchrl.service import ServerConfig
from searchrl.service.app import create_app
from searchrl.service.service import Service
from tests.service.parts import client, config_of, jsonl, services, untrained_policy

pytest.importorskip("mcp.server.mcpserver", reason="the SDK of the Model Context Protocol is not installed")

TEXTS = ("red apple", "green apple", "red car")
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def test_tools_answer_with_structure_and_text_and_report_progress(tmp_path: Path) -> None:
    from mcp import Client

    from searchrl.service.mcp import Tools

    async def main() -> None:
        config = config_of(tmp_path)
        service = Service(config, services())
        await service.start()
        seen: list[float] = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            seen.append(done)

        async with Client(Tools(service).server) as asking:
            tools = {tool.name: tool for tool in (await asking.list_tools()).tools}
            assert set(tools) == {"search", "relevance"}  # there is no agent here
            assert all(tool.description and tool.output_schema for tool in tools.values())
            none = await asking.call_tool("search", {"query": "x"})
            assert none.is_error
            assert "PUT /corpora/NAME" in none.content[0].text

            async def upload() -> AsyncIterator[bytes]:
                yield jsonl(*TEXTS).encode()

            await service.put("things", upload())
            found = await asking.call_tool("search", {"query": "red car", "k": 2}, progress_callback=progress)
            documents = found.structured_content["documents"]
            assert [one["id"] for one in documents] == ["d2", "d0"]
            assert json.loads(found.content[0].text)["documents"] == documents
            assert seen == sorted(seen)
            assert len(seen) == 2
            scored = await asking.call_tool("relevance", {"query": "red car", "texts": ["sky", "red"]})
            low, high = scored.structured_content["relevance"]
            assert 0 <= low < high <= 1
            for wrong in ({"query": ""}, {"query": "x", "k": 0}, {"query": "x", "corpus": "none"}):
                assert (await asking.call_tool("search", wrong)).is_error
        await service.close()

    asyncio.run(main())


def test_the_agent_says_what_it_did(bench: Bench, tmp_path: Path) -> None:
    from mcp import Client

    from searchrl.service.mcp import Tools

    async def main() -> None:
        recorded = TrainConfig(models=ModelConfig(device="cpu"), game=GameConfig(reward="qrels"))
        policy = untrained_policy(tmp_path / "policy.pt", bench, bench.game.feature_names, recorded)
        agent = Agent(policy, recorded.models, bench.encoder)
        service = Service(config_of(tmp_path / "corpora"), services(bench.encoder), agent)
        await service.start()

        async def upload() -> AsyncIterator[bytes]:
            yield jsonl(*bench.dataset.corpus.texts[:20]).encode()

        await service.put("things", upload())
        async with Client(Tools(service).server) as asking:
            query = bench.dataset.corpus.texts[3][:100]
            answer = (await asking.call_tool("search_agent", {"query": query, "k": 2})).structured_content
            assert len(answer["documents"]) == 2
            assert (answer["steps"][0]["action"], answer["steps"][0]["query"]) == ("search", query)
            assert len(answer["steps"][0]["found"]) == 2
        await service.close()

    asyncio.run(main())


def test_mcp_answers_at_its_path_behind_the_services_own_checks(tmp_path: Path) -> None:
    with client(tmp_path, token="sesame") as asking:
        known = {**ACCEPT, "Authorization": "Bearer sesame"}
        answer = asking.post("/mcp", json=INITIALIZE, headers=known, follow_redirects=False)
        assert answer.status_code == 200
        assert "SearchRL" in answer.text
        assert asking.post("/mcp", json=INITIALIZE, headers=ACCEPT).status_code == 401
        evil = asking.post("/mcp", json=INITIALIZE, headers={**known, "Origin": "http://evil.example"})
        assert evil.status_code == 403
        own = asking.post("/mcp", json=INITIALIZE, headers={**known, "Origin": "http://127.0.0.1:8000"})
        assert own.status_code == 200


def test_any_host_is_served_where_the_network_is(tmp_path: Path) -> None:
    from fastapi.testclient import TestClient

    config = parse(ServerConfig, ["--host", "0.0.0.0", "--corpora", str(tmp_path)], "searchrl serve")
    with TestClient(create_app(Service(config, services()), config), base_url="http://search.example") as asking:
        assert asking.post("/mcp", json=INITIALIZE, headers=ACCEPT).status_code == 200


def test_standard_output_carries_the_protocol_alone(tmp_path: Path) -> None:
    asked = "\n".join(json.dumps(one) for one in (INITIALIZE,)) + "\n"
    command = [sys.executable, "-m", "searchrl.cli.mcp", "--corpora", str(tmp_path / "c"), "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdin
    assert process.stdout
    process.stdin.write(asked)
    process.stdin.flush()
    first = json.loads(process.stdout.readline())
    process.stdin.close()
    assert first["result"]["serverInfo"]["name"] == "SearchRL"
    assert process.wait(60) == 0
    assert process.stdout.read() == ""
    process.stdout.close()
