"""A service with models that are real in behaviour and made by hand, so that tests start in no time."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi.testclient import TestClient

from benchmarks.bench import Bench
from benchmarks.service_load import connection
from searchrl.agent.checkpoint import PolicyCheckpoint, save_policy
from searchrl.agent.policy import Policy
from searchrl.config import TrainConfig
from searchrl.config_file import to_json
from searchrl.errors import ModelError
from searchrl.models.language_model import FloatArray
from searchrl.search.services import Services
from searchrl.service import LimitConfig, ServerConfig
from searchrl.service.app import create_app
from searchrl.service.service import Service
from tests.tiny import WordEncoder

if TYPE_CHECKING:
    from searchrl.search.corpus import Agent


class Overlap:
    """A reward model that can be checked by hand: how many words query and document share."""

    fingerprint = "overlap"
    absolute = False

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        pairs = zip(queries, documents, strict=True)
        return np.array([len(set(q.lower().split()) & set(d.lower().split())) for q, d in pairs], dtype=np.float32)


def untrained_policy(path: Path, bench: Bench, names: Sequence[str], recorded: TrainConfig) -> Path:
    """Write a policy as if training with these settings had made it."""
    policy, encoder = Policy(bench.encoder.dim, len(names), hidden=8), bench.encoder.fingerprint
    save_policy(path, PolicyCheckpoint(policy, to_json(recorded), "small", encoder, names, 1, None, [0]))
    return path


SERVER = Path(__file__).with_name("serve.py")

SLOW = "take your time"
"""A prompt whose answer takes half a second."""


class Backwards:
    """A language model that writes the prompt backwards, and cannot read what is too long."""

    fingerprint = "backwards"

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        if any(len(prompt) > 1000 for prompt in prompts):
            raise ModelError("a prompt exceeds what backwards reads")
        time.sleep(0.5 * (SLOW in prompts))
        return [prompt[::-1][:max_new_tokens] for prompt in prompts]


def services(encoder: Any = None) -> Services:
    """The three models behind one object."""
    return Services(generation_model=Backwards(), embedding_model=encoder or WordEncoder(), scorer=Overlap())


def config_of(folder: Path, **limits: Any) -> ServerConfig:
    return ServerConfig(corpora=folder, limits=LimitConfig(**limits))


@contextmanager
def client(
    folder: Path, *, encoder: Any = None, agent: Agent | None = None, token: str | None = None, **limits: Any
) -> Iterator[TestClient]:
    """The whole application over a folder of corpora, ready to be asked."""
    config = config_of(folder, **limits)
    service = Service(config, services(encoder), agent)
    with TestClient(create_app(service, config, token), base_url="http://127.0.0.1") as asking:
        while asking.get("/readyz").status_code != 200:
            pass
        yield asking


def jsonl(*texts: str) -> str:
    """Documents d0, d1, ... as an upload has them."""
    return "".join(json.dumps({"_id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(texts))


def ids(answer: Any) -> list[Any]:
    """What was found for the first query, best first."""
    return [key["key_id"] for key in answer.json()["results"][0]["keys"]]


class Running:
    """A service in a process of its own, with the same models: ``serve.py``."""

    def __init__(self, folder: Path, *, before: Any = None, log: Any = None, **limits: float) -> None:
        """before: called in the new process before it begins. log: where its errors go. limits: see LimitConfig."""
        command = [sys.executable, str(SERVER), str(folder), *(f"{name}={value}" for name, value in limits.items())]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=before)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        async def main() -> tuple[int, Any]:
            async with connection(self.port) as ask:
                status, answer = await ask(method, path, body)
            return status, json.loads(answer)

        return asyncio.run(main())

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        self.process.send_signal(signal_number)
        self.process.wait(timeout=30)
        assert self.process.stdout
        self.process.stdout.close()
