"""An answer from the shell: what the retriever finds, or what the agent finds and how."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.bench import Bench
from searchrl.agent.checkpoint import load_policy
from searchrl.env.live import play_live
from tests.command import Outcome, Shell


def test_a_plain_search_finds_what_the_retriever_does(shell: Shell, small_folder: Path, bench: Bench) -> None:
    query = bench.queries("test").texts[0]
    flags = ("--dataset", small_folder, "--device", "cpu", "--retriever", "dense", "--k", 3)
    content = json.loads(shell.search(query, *flags, "--json").ok.out)
    found = bench.retriever.search(bench.retriever.queries([query]))
    ids = [bench.dataset.corpus.ids[d] for d in found.documents[0, :3]]
    assert (content["query"], content["steps"]) == (query, None)
    assert [key["key_id"] for key in content["keys"]] == ids
    assert [key["score"] for key in content["keys"]] == pytest.approx(found.scores[0, :3].tolist(), abs=1e-5)
    printed = shell.search(query, *flags).ok.out.splitlines()
    assert [line.split()[1] for line in printed[::2]] == ids
    assert all(len(line) <= 110 for line in printed)


def test_the_agent_shows_its_way(
    shell: Shell, small_folder: Path, bench: Bench, trained: tuple[Shell, Outcome]
) -> None:
    policy = trained[0].folder / "checkpoints" / "policy_final.pt"
    query = bench.queries("test").texts[1]
    flags = ("--dataset", small_folder, "--device", "cpu", "--checkpoint", policy)
    content = json.loads(shell.search(query, *flags, "--json").ok.out)
    (episode,) = play_live(load_policy(policy).policy, bench.game, [query])
    assert [step["action"] for step in content["steps"]] == [step.action.name.lower() for step in episode.steps]
    assert content["steps"][0]["keys"][0].keys() == {"key_id", "title", "key", "score"}
    printed = shell.search(query, *flags).ok.out
    assert printed.startswith("step 1: search (search 100%)")
    assert f"\n 1. {content['keys'][0]['key_id']}  " in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["rain", "--k", "0"], "k 0"),
        (["rain", "--k", "101"], "at most 100"),
        ([" "], "the query is empty"),
        (["rain", "--checkpoint", "auto", "--retriever", "dense"], "the agent chooses how to search"),
        (["rain", "--checkpoint", "none.pt", "--device", "cpu"], "no such checkpoint"),
        (["rain", "--dataset", "./nowhere", "--device", "cpu"], "no such folder"),
    ],
)
def test_a_mistake_is_one_line(shell: Shell, flags: list[str], message: str) -> None:
    assert message in shell.search(*flags).error
