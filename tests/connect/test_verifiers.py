from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("verifiers.v1", reason="needs the extra 'verifiers'")
pytestmark = pytest.mark.filterwarnings("default")  # verifiers' own


def test_tasks_tools_and_reward(small_folder: Path, command_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from searchrl.connect.verifiers import SearchTask, SearchTaskset, SearchTasksetConfig

    monkeypatch.setenv("SEARCHRL_CACHE", str(command_cache))
    tools = {"dataset": str(small_folder), "split": "test", "device": "cpu"}
    taskset = SearchTaskset(SearchTasksetConfig(task={"tools": tools}))
    tasks = list(taskset)
    assert len({task.key for task in tasks}) == len(tasks) > 1
    task = tasks[0]
    (toolset,) = SearchTask.toolsets(task.config)
    asyncio.run(toolset.setup_task(task.data))
    assert toolset.search("read a file").startswith("[")
    best = sorted(task.data.judgments, key=lambda one: -task.data.judgments[one])
    toolset.submit(best)
    assert toolset.state.submitted == best
    for state, gain in ((toolset.state, 1.0), (SimpleNamespace(), 0.0)):
        assert asyncio.run(task.ndcg(SimpleNamespace(state=state))) == pytest.approx(gain)
