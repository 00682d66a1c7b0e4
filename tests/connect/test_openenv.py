from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from searchrl.connect.search_tools import SearchTasks
from tests.command import REPOSITORY

pytest.importorskip("openenv.core", reason="needs the extra 'openenv'")
pytestmark = pytest.mark.filterwarnings("default")  # OpenEnv's own


def test_an_episode_by_actions(small_folder: Path, command_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from searchrl.connect.openenv import SearchAction, SearchEnvironment, make_app

    monkeypatch.setenv("SEARCHRL_CACHE", str(command_cache))
    tasks = SearchTasks(str(small_folder), device="cpu", max_calls=2)
    env = SearchEnvironment(tasks)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(SearchAction(query="x"))
    first = env.reset(seed=1, episode_id="mine")
    assert env.reset(seed=1, episode_id="mine") == first
    assert (env.state.episode_id, env.state.step_count, first.done) == ("mine", 0, False)
    assert env.step(SearchAction(tool="narrow")).text.startswith("error: ")
    assert env.step(SearchAction(query="read a file")).text.startswith("[")
    query_id = tasks.queries.ids[0]
    env.reset(query_id=query_id)
    paid = env.step(SearchAction(tool="submit", ids=list(tasks.queries.qrels[query_id])))
    assert paid.done
    assert paid.reward > 0
    assert env.step(SearchAction(query="x")).done
    env.reset(seed=2)
    assert [env.step(SearchAction(query="x")).done for _ in range(3)] == [False, False, True]
    assert {"/ws", "/health"} <= {getattr(route, "path", "") for route in make_app(tasks).routes}
    tasks.close()


def test_the_example_is_a_package_that_openenv_takes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "openenv.cli", "validate", str(REPOSITORY / "examples" / "openenv")]
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False).stdout
    assert "PASS  static.manifest" in said
    assert "FAIL" not in said
