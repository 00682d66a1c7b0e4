"""``generate_queries.py`` as a user runs it: with the embedded model, and killed half-way with a smaller one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from searchrl.data.beir import read_beir_folder, write_beir_folder
from searchrl.data.dataset import Corpus, Dataset
from searchrl.data.query_bank import load_query_bank, load_query_bank_for
from searchrl.models.prompts import load_prompts
from searchrl.queries.cleaning import check
from tests.command import Shell
from tests.mortal import run


@pytest.fixture
def short(small_dataset: Dataset, tmp_path: Path) -> tuple[Path, Corpus]:
    """The small collection with shorter documents, about which questions are soon asked."""
    corpus = replace(small_dataset.corpus, texts=[text[:120] for text in small_dataset.corpus.texts])
    write_beir_folder(replace(small_dataset, corpus=corpus), tmp_path / "short")
    return tmp_path / "short", corpus


def test_a_killed_command_goes_on_to_a_bank_and_a_folder_that_training_reads(
    shell: Shell, short: tuple[Path, Corpus], flags: list[str]
) -> None:
    folder, corpus = short
    numbers = "--num-single 3 --num-multi 0 --num-adversarial 0 --queries-per-doc 1 --show 9".split()
    exported = shell.folder / "made"
    command = ["--dataset", str(folder), "--device", "cpu", *numbers]
    bank_file = shell.folder / "runs" / "queries-short.jsonl"
    # Two lots of answers are questions, the third is the first that a question's documents are compared by.
    run("generate_queries", command, shell.folder, dies_at=3, cache=shell.cache, scripted=False)
    assert not bank_file.exists()
    outcome = shell.generate_queries(*command, "--export-beir", exported).ok
    bank = load_query_bank(bank_file)
    assert 1 <= len(bank.queries) <= 3
    assert bank.header.model.startswith("smollm2-135m ")
    assert bank.header.judge
    assert bank.header.settings == {"num_single": 3, "num_multi": 0, "num_adversarial": 0, "queries_per_doc": 1}
    for query in bank.queries:
        assert query.type == "single"
        assert query.difficulty is not None
        assert 0.0 <= query.difficulty <= 1.0
        assert check(query.text, [_text(corpus, i) for i in query.source_ids], load_prompts().single) is None
        assert query.text in outcome.out
    assert f"{len(bank.queries)} queries; train on it" in outcome.out
    assert "judged lower" in outcome.out, "the table of rejections"
    assert sum(len(q) for split, q in read_beir_folder(exported).splits.items() if split != "test") == len(bank.queries)
    assert set(load_query_bank_for(bank_file, corpus).query_set().ids) == {query.id for query in bank.queries}
    shell.train(*flags, "--dataset", folder, "--episodes", 64, "--query-bank", bank_file).ok  # noqa: B018
    assert "exists already" in shell.generate_queries(*command, "--export-beir", exported).error
    before = bank_file.read_bytes()
    shell.generate_queries(*command, "--no-cache").ok  # noqa: B018
    assert bank_file.read_bytes() == before, "as if nothing had been killed or kept"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--num-single -1", "--num-single -1: must be at least 0"),
        ("--num-single 0 --num-multi 0 --num-adversarial 0", "nothing to make"),
        ("--queries-per-doc 0", "--queries-per-doc 0: must be at least 1"),
    ],
)
def test_impossible_numbers_are_refused(shell: Shell, flags: str, says: str) -> None:
    assert says in shell.generate_queries(*flags.split()).error


def test_mistakes_are_said_before_the_model_is_loaded(shell: Shell, small_folder: Path) -> None:
    taken = shell.folder / "taken"
    taken.mkdir()
    (taken / "file").write_text("x")
    command = ["--dataset", small_folder, "--device", "cpu"]
    assert "taken: is a folder; name a file with --output" in shell.generate_queries(*command, "--output", taken).error
    assert "taken: exists already" in shell.generate_queries(*command, "--export-beir", taken).error
    shell.generate_queries(*command, "--export-beir", shell.folder / "new", "--lm", "no/such/folder").error  # noqa: B018
    assert not (shell.folder / "new").exists()


def _text(corpus: Corpus, document: str) -> str:
    return corpus.full_text(corpus.position[document])
