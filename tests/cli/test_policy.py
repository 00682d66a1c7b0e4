"""``python -m searchrl.cli.policy`` and where ``eval.py`` finds policies; the hub is a real server on loopback."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from searchrl.agent.checkpoint import OWN, find_policy, load_policy
from searchrl.env.features import PROBE_FEATURES, QUERY_FEATURES, RANKING_FEATURES, REWARD_FEATURES
from tests.command import REPOSITORY, Outcome, Shell

REVISION = "0" * 40
SHORT = ["--episodes", "64"]


@pytest.fixture(scope="module")
def trained(flags: list[str], command_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    place = Shell(tmp_path_factory.mktemp("policies"), command_cache)
    place.train(*flags, *SHORT).ok  # noqa: B018
    place.eval("--output-dir", "results").ok  # noqa: B018
    return place


class Hub(ThreadingHTTPServer):
    """As much of the Hugging Face hub as an upload of small files and a download need."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer hf_secret":
            self._answer(401, {"error": "log in first"})
        elif self.path == "/api/repos/create":
            self._answer(200, {"url": f"{self.server.address}/me/mine", "name": "me/mine"})
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            self._answer(200, {"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{self.server.address}/me/mine/commit/{REVISION}"
            self._answer(200, {"commitUrl": url, "commitOid": REVISION, "success": True})
        else:
            self._answer(404, {})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        content = self.server.files.get(self.path.rpartition("/")[2]) if self.path.startswith("/me/mine/") else None
        if content is None:
            self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        else:
            self._answer(200, content, {"ETag": '"abc"', "X-Repo-Commit": REVISION})

    def _answer(self, code: int, content: object, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(place: Shell, hub: Hub, *arguments: object, token: str = "hf_secret") -> Outcome:
    """In a process of its own: the hub's library reads its settings when it is imported."""
    settings = {
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": token,
        "HF_HOME": str(place.folder / "hub"),
        "HF_HUB_OFFLINE": "0",
    }
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=place.folder,
        env={**os.environ, **place.environment, **settings, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_the_card_says_what_the_policy_learned_and_what_it_did(trained: Shell, hub: Hub) -> None:
    outcome = run(trained, hub, "-m", "searchrl.cli.policy", "checkpoints/policy_final.pt", "--results", "results")
    assert "card: checkpoints/policy_final.md" in outcome.ok.out
    card = (trained.folder / "checkpoints" / "policy_final.md").read_text()
    assert card.startswith("---\nlibrary_name: searchrl\n")
    assert "| trained on | small " in card
    assert "human judgments" in card
    results = json.loads((trained.folder / "results" / "results.json").read_text())
    agent = results["methods"]["rl_agent"]["metrics"]["nDCG@10"]
    row = next(line for line in card.splitlines() if line.startswith("| small test (12)"))
    assert f"{agent:.4f}" in row
    assert not hub.files, "nothing leaves the machine unasked"


def test_pushed_and_evaluated_from_the_hub(trained: Shell, hub: Hub) -> None:
    policy = trained.folder / "checkpoints" / "policy_final.pt"
    pushed = run(trained, hub, "-m", "searchrl.cli.policy", "checkpoints/policy_final.pt", "--push", "me/mine").ok
    assert pushed.out.splitlines()[-1] == "policy: hf://me/mine"
    assert hub.files["policy.pt"] == policy.read_bytes()
    assert b"eval.py --checkpoint hf://me/mine" in hub.files["README.md"]
    evaluated = run(trained, hub, REPOSITORY / "eval.py", "--checkpoint", "hf://me/mine", "--output-dir", "again").ok
    assert "trained on small" in evaluated.out
    assert (trained.folder / "again" / "per_query.jsonl").read_bytes() == (
        trained.folder / "results" / "per_query.jsonl"
    ).read_bytes()


def test_mistakes(trained: Shell, hub: Hub) -> None:
    command = ["-m", "searchrl.cli.policy", "checkpoints/policy_final.pt"]
    assert "hf auth login" in run(trained, hub, *command, "--push", "me/mine", token="hf_wrong").error
    assert "name a folder that eval.py wrote" in run(trained, hub, *command, "--results", "nowhere").error
    assert "--push USER/REPO" in run(trained, hub, *command, "--private").error
    missing = run(trained, hub, REPOSITORY / "eval.py", "--checkpoint", "hf://me/other").error
    assert "hf://me/other: policy.pt cannot be had from the hub" in missing


def test_your_own_newest_policy_comes_before_the_one_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = find_policy("auto")
    assert shipped == find_policy("pydocs") == REPOSITORY / "checkpoints" / "pydocs.pt"
    OWN.parent.mkdir()
    OWN.touch()
    assert find_policy("auto") == OWN
    assert find_policy("other.pt") == Path("other.pt")


@pytest.mark.parametrize("name", ["pydocs", "transfer"])
def test_the_policies_that_ship_fit_todays_features(name: str) -> None:
    folder = REPOSITORY / "checkpoints"
    features = load_policy(folder / f"{name}.pt").feature_names
    assert tuple(features) == (*RANKING_FEATURES, *PROBE_FEATURES, *REWARD_FEATURES, *QUERY_FEATURES)
    assert f"# {name}" in (folder / f"{name}.md").read_text()
