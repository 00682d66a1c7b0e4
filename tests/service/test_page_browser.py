"""The page in a real browser (Chromium, as Qt WebEngine): it searches, compares, and is not broken into."""

from __future__ import annotations

import importlib.util
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from benchmarks.bench import Bench
from searchrl.agent.checkpoint import PolicyCheckpoint, save_policy
from searchrl.agent.policy import Policy
from searchrl.config import GameConfig, ModelConfig, TrainConfig
from searchrl.config_file import to_json
from searchrl.search.corpus import Agent
from searchrl.service.app import create_app
from searchrl.service.service import Service
from tests import browser
from tests.service.parts import config_of, jsonl, services
from tests.tiny import WordEncoder

HOSTILE = "<img src=x onerror=document.title='broken'><b>red</b> & \"car\""
TEXTS = ("red apple", HOSTILE, "green apple", "blue sky", "a red car in the park")


@contextmanager
def served(folder: Path, token: str | None = None, agent: Agent | None = None) -> Iterator[str]:
    """The service on a port of its own, with one corpus; gives its address."""
    config = config_of(folder)
    app = create_app(Service(config, services(), agent), config, token)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        try:
            headers = {"Authorization": f"Bearer {token}"}
            while httpx.get(f"{address}readyz").status_code != 200:
                time.sleep(0.01)
            assert httpx.put(f"{address}corpora/things", content=jsonl(*TEXTS), headers=headers).status_code == 201
            yield address
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def agent(tmp_path: Path, bench: Bench) -> Agent:
    """An untrained policy: at play it is as good as any."""
    encoder = WordEncoder()
    names, models = bench.game.feature_names, ModelConfig(device="cpu", cache=False)
    checkpoint = PolicyCheckpoint(
        policy=Policy(encoder.dim, len(names), hidden=8),
        config=to_json(TrainConfig(models=models, game=GameConfig(reward="qrels", judge_depth=0))),
        dataset="none",
        encoder=encoder.fingerprint,
        feature_names=names,
        episode=0,
        dev_score=None,
        best_fixed=[0],
    )
    save_policy(tmp_path / "policy.pt", checkpoint)
    return Agent(tmp_path / "policy.pt", models, encoder)


def browse(address: str, *steps: list[str], **view: Any) -> list[Any]:
    """Open the page, take steps and return what they gave; it may not complain, or ask for anything from elsewhere."""
    seen = browser.browse(address, *steps, **view)
    assert all(asked.startswith((address, "data:,")) for asked in seen.requests)
    return seen.values


def found(list_id: str, what: str) -> str:
    return f"[...document.querySelectorAll('#{list_id} > li')].map((item) => {what})"


READY = ["wait", "document.getElementById('corpus').options.length"]
FOCUS = ["js", "document.getElementById('query').focus()"]
ANSWERED = ["wait", "document.getElementById('status').textContent.endsWith(' s')"]
TEXT = "item.querySelector('p').textContent"


def test_single_pass_and_agent_side_by_side_with_the_agents_steps(tmp_path: Path, agent: Agent) -> None:
    with served(tmp_path / "corpora", agent=agent) as address:
        answer = httpx.post(
            f"{address}search",
            json={"corpus": "things", "queries": ["red car"], "strategy": "agent", "return_relevance": True},
        ).json()["results"][0]
        values = browse(
            address,
            READY,
            FOCUS,
            ["js", "document.getElementById('judge').click()"],
            ["type", "red car"],
            ["key", "Return"],
            ANSWERED,
            ["js", found("single", TEXT)],
            ["js", found("agent", TEXT)],
            ["js", found("agent", "item.querySelector('.facts').textContent")],
            ["js", found("steps", "item.querySelector('h3').textContent")],
            ["js", found("steps", "item.querySelector('.chosen').textContent.trim()")],
            ["js", "[document.title, document.querySelectorAll('img, b').length, document.scripts.length].join()"],
        )
    _, _, single, played, facts, actions, chosen, untouched = values
    assert sorted(single) == sorted(played) == sorted(TEXTS), "texts as they are"
    assert played == [key["key"] for key in answer["keys"]]
    for fact, key in zip(facts, answer["keys"], strict=True):
        assert fact == f"{key['key_id']} · score {key['score']:.3f} · relevance {key['relevance']:.3f}"
    assert actions == [step["action"] for step in answer["steps"]]
    for said, step in zip(chosen, answer["steps"], strict=True):
        assert said == f"{step['action']} {100 * step['probabilities'][step['action']]:.1f}%"
    assert untouched == "SearchRL,0,1"


def test_without_an_agent_there_is_one_list_and_a_token_is_asked_for(tmp_path: Path) -> None:
    with served(tmp_path / "corpora", token="sesame") as address:
        values = browse(
            address,
            ["wait", "!document.getElementById('secret').hidden"],
            ["js", "document.getElementById('token').focus()"],
            ["type", "sesame"],
            ["key", "Tab"],
            READY,
            FOCUS,
            ["type", "blue sky"],
            ["key", "Return"],
            ANSWERED,
            ["js", found("single", TEXT)],
            ["js", "document.getElementById('trace').hidden"],
            ["js", "document.getElementById('agent').parentElement.hidden"],
        )
    _, _, single, no_trace, no_agent = values
    assert single[0] == "blue sky"
    assert (no_trace, no_agent) == (True, True)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 390), ("dark", 390)])
def test_everybody_can_read_the_answer(scheme: str, width: int, tmp_path: Path, agent: Agent) -> None:
    """No violation that axe finds, and nothing to be moved sideways on a phone."""
    package = importlib.util.find_spec("axe_playwright_python")
    if package is None or not package.submodule_search_locations:
        pytest.skip("axe is not installed: uv pip install --no-deps axe-playwright-python")
    axe = Path(package.submodule_search_locations[0], "axe.min.js")
    with served(tmp_path / "corpora", agent=agent) as address:
        values = browse(
            address,
            READY,
            FOCUS,
            ["type", "red car"],
            ["key", "Return"],
            ANSWERED,
            ["load", str(axe)],
            ["js", "axe.run().then((all) => { window.found = all.violations.map((v) => v.id + v.nodes[0].html) })"],
            ["wait", "window.found !== undefined"],
            ["js", "window.found"],
            ["js", "document.documentElement.scrollWidth <= window.innerWidth"],
            ["js", "window.matchMedia('(prefers-color-scheme: dark)').matches"],
            scheme=scheme,
            width=width,
        )
    assert values[-3:] == [[], True, scheme == "dark"]


def test_the_keyboard_alone_searches_and_opens_the_trace(tmp_path: Path, agent: Agent) -> None:
    reached = ["js", "document.activeElement.id || document.activeElement.tagName"]
    tab = ["key", "Tab"]
    with served(tmp_path / "corpora", agent=agent) as address:
        values = browse(
            address,
            READY,
            ["js", "document.getElementById('corpus').focus()"],
            *[step for _ in range(4) for step in (tab, reached)],
            ["js", "document.getElementById('query').focus()"],
            ["type", "red car"],
            *[tab] * 3,
            ["key", "Return"],
            ANSWERED,
            tab,
            reached,
            ["key", "Return"],
            ["js", "document.querySelectorAll('details[open]').length"],
        )
    assert values[1:5] == ["query", "k", "judge", "BUTTON"]
    assert values[-2:] == ["SUMMARY", 1]
