"""``train.py --dataset a,b``: one policy for several collections, which can then search any."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from searchrl.agent.checkpoint import load_policy
from searchrl.data.beir import write_beir_folder
from searchrl.data.dataset import Corpus, Dataset, QuerySet
from tests.command import Outcome, Shell, assert_same_weights, metrics


def half(dataset: Dataset, name: str, splits: list[str]) -> Dataset:
    """Every document cut short, and half of the queries of some splits."""
    full = dataset.corpus
    corpus = Corpus(full.ids, full.titles, [text[:100] for text in full.texts])
    chosen = {}
    for split in splits:
        queries = dataset.splits[split]  # type: ignore[index]
        ids = queries.ids[::2]
        chosen[split] = QuerySet(ids, queries.texts[::2], {q: queries.qrels[q] for q in ids})
    return Dataset(name, corpus, chosen)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def second(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("second") / "second"
    write_beir_folder(half(small_dataset, "second", ["train", "dev", "test"]), folder)
    return folder


@pytest.fixture(scope="module")
def both(flags: list[str], second: Path) -> list[str]:
    return [*flags, "--dataset", f"{flags[1]},{second}", "--episodes", "640"]


@pytest.fixture(scope="module")
def trained_on_both(
    both: list[str], command_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Shell, Outcome]:
    place = Shell(tmp_path_factory.mktemp("both"), command_cache)
    return place, place.train(*both).ok


def test_every_collection_is_described_and_compared(trained_on_both: tuple[Shell, Outcome]) -> None:
    out = trained_on_both[1].out
    assert "run: runs/small+second-001" in out
    assert [out.count(f"dataset: {name}, ") for name in ("small", "second")] == [2, 2]
    assert out.count("headroom (nDCG@10)") == 2
    assert out.count("dev queries:") == 2


def test_the_checkpoint_names_all_and_searches_any(trained_on_both: tuple[Shell, Outcome], second: Path) -> None:
    place = trained_on_both[0]
    assert load_policy(place.folder / "checkpoints" / "policy_final.pt").dataset == "small+second"
    outcome = place.eval("--dataset", second).ok
    assert "trained on small+second" in outcome.out
    assert "6 test queries" in outcome.out


def test_evaluating_asks_which(trained_on_both: tuple[Shell, Outcome]) -> None:
    assert "only training works with several at once; name one of them" in trained_on_both[0].eval().error


def test_the_same_twice_and_resumed(shell: Shell, both: list[str], trained_on_both: tuple[Shell, Outcome]) -> None:
    whole = trained_on_both[0].folder / "runs" / "small+second-001"
    shell.train(*both).ok  # noqa: B018
    run = shell.folder / "runs" / "small+second-001"
    assert metrics(run) == metrics(whole)
    (run / "checkpoints" / "policy_final.pt").unlink()
    shell.train(*both, "--resume").ok  # noqa: B018
    assert_same_weights(run / "checkpoints" / "policy_final.pt", whole / "checkpoints" / "policy_final.pt")


def test_the_order_of_collections_is_part_of_the_settings(
    shell: Shell, flags: list[str], both: list[str], second: Path
) -> None:
    short = [*both, "--episodes", "64"]
    shell.train(*short).ok  # noqa: B018
    assert "data.dataset" in shell.train(*short, "--resume", "--dataset", f"{second},{flags[1]}").error


@pytest.mark.parametrize(
    ("value", "more", "complaint"),
    [
        ("{small},{small}", [], "is named twice"),
        ("{small},", [], "an empty name between commas"),
        ("{small},nfcorpsu", [], "unknown dataset 'nfcorpsu'; did you mean 'nfcorpus'?"),
        ("{small},{untaught}", [], "dataset 'untaught' has no train queries with judgments (it has: test)"),
        ("{small},{second}", ["--query-bank", "bank.jsonl"], "a query bank belongs to one dataset"),
    ],
)
def test_mistakes(
    shell: Shell,
    flags: list[str],
    small_dataset: Dataset,
    second: Path,
    tmp_path_factory: pytest.TempPathFactory,
    value: str,
    more: list[str],
    complaint: str,
) -> None:
    untaught = tmp_path_factory.mktemp("untaught") / "untaught"
    write_beir_folder(half(small_dataset, "untaught", ["test"]), untaught)
    datasets = value.format(small=flags[1], second=second, untaught=untaught)
    assert complaint in shell.train(*flags, "--dataset", datasets, *more).error
    assert not list((shell.folder / "runs").glob("*/checkpoints")), "nothing was trained"


def test_half_of_dev_is_trained_on_where_there_is_no_train_split(
    shell: Shell, flags: list[str], small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    untaught = tmp_path_factory.mktemp("untaught") / "untaught"
    write_beir_folder(half(small_dataset, "untaught", ["dev", "test"]), untaught)
    both = [*flags, "--dataset", f"{flags[1]},{untaught}", "--episodes", "64"]
    assert "--train-from-dev" in shell.train(*both).error
    out = shell.train(*both, "--train-from-dev").ok.out
    taken = re.search(r"train: (\d) of 6 dev queries, taken out with seed 42", out)
    assert taken
    left = 6 - int(taken[1])
    assert f"{left} dev queries" in shell.eval("--dataset", untaught, "--split", "dev").ok.out
