"""The service as a process: it finishes what it took when it is stopped, and no request makes it fail."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from benchmarks.service_load import connection
from tests.service.parts import SLOW, Running, jsonl


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.stop()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX systems")
def test_a_stopped_service_finishes_what_it_took(running: Running) -> None:
    async def main() -> list[tuple[int, bytes]]:
        async def one(temperature: int) -> tuple[int, bytes]:
            async with connection(running.port) as ask:
                body = {"prompts": [SLOW], "temperature": temperature}
                return await ask("POST", "/generate", json.dumps(body).encode())

        tasks = [asyncio.create_task(one(i)) for i in range(3)]  # three batches
        async with connection(running.port) as watch:
            while b"searchrl_waiting_items 3.0" not in (await watch("GET", "/metrics"))[1]:
                assert not any(task.done() for task in tasks)
        running.process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*tasks)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", running.port)
        return answers

    for status, answer in asyncio.run(main()):
        assert (status, json.loads(answer)) == (200, {"texts": [SLOW[::-1]]})


def test_a_client_that_hangs_up_is_not_worked_for(running: Running) -> None:
    async def main() -> bytes:
        async with connection(running.port) as busy, connection(running.port) as watch:
            await watch("POST", "/relevance", b'{"queries": ["a"], "keys": ["a"]}')  # now the model is known
            slow = asyncio.create_task(busy("POST", "/generate", json.dumps({"prompts": [SLOW]}).encode()))
            while b"searchrl_waiting_items 1.0" not in (await watch("GET", "/metrics"))[1]:
                await asyncio.sleep(0.01)
            async with connection(running.port) as impatient:
                body = b'{"queries": ["a"], "keys": ["c", "d"]}'  # which wait for the same thread
                asked = asyncio.create_task(impatient("POST", "/relevance", body))
                while b"searchrl_waiting_items 3.0" not in (await watch("GET", "/metrics"))[1]:
                    await asyncio.sleep(0.01)
            with pytest.raises(asyncio.IncompleteReadError):
                await asked
            assert (await slow)[0] == 200
            await watch("POST", "/relevance", b'{"queries": ["a"], "keys": ["b"]}')
            return (await watch("GET", "/metrics"))[1]

    counted = asyncio.run(main())
    assert b'searchrl_requests_total{route="/relevance",status="499"} 1.0' in counted
    assert b'searchrl_batch_items_count{work="Score"} 2.0' in counted
    assert b"searchrl_waiting_items 0.0" in counted


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The OpenAPI description of a running service that has a corpus."""
    running = Running(tmp_path_factory.mktemp("corpora"))
    while running.ask("GET", "/readyz")[0] != 200:
        time.sleep(0.01)
    assert running.ask("PUT", "/corpora/0", jsonl("red apple", "green apple", "blue sky").encode())[0] == 201
    yield schemathesis.openapi.from_url(f"http://127.0.0.1:{running.port}/openapi.json")
    assert running.process.poll() is None, "it did not survive"
    running.stop()


@schemathesis.serializer("application/x-ndjson")
def _ndjson(_: Any, value: Any) -> bytes:
    """An upload as schemathesis makes one up: bytes, or what JSON can say."""
    content = getattr(value, "data", value)
    return content if isinstance(content, bytes) else json.dumps(content).encode()


def test_no_request_makes_the_service_fail(api: Any) -> None:
    checks = [not_a_server_error, response_schema_conformance, status_code_conformance]
    tried = []
    for operation in api.get_all_operations():

        @settings(max_examples=30, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(
            case=operation.ok().as_strategy(generation_mode=GenerationMode.POSITIVE)
            | operation.ok().as_strategy(generation_mode=GenerationMode.NEGATIVE)
        )
        def holds(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=checks)

        holds()
        tried.append(operation.ok().label)
    assert {"POST /search", "POST /relevance", "POST /embed", "POST /generate", "PUT /corpora/{name}"} <= set(tried)
