"""Where one search already finds everything, the policy that ships for other collections does no harm."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from searchrl.data.beir import write_beir_folder
from searchrl.data.dataset import Corpus, Dataset, QuerySet
from searchrl.data.load import load_dataset
from tests.command import REPOSITORY, Shell

POLICY = REPOSITORY / "checkpoints" / "transfer.pt"


def known_items(full: Dataset, count: int) -> Dataset:
    """Look for one document by its own first sentence: a plain search finds it, whatever else is fused in."""
    corpus = full.corpus
    chosen = [i for i in range(len(corpus)) if len(corpus.texts[i]) > 200][:: max(1, len(corpus) // count)][:count]
    texts = [re.split(r"(?<=[.!?])\s", corpus.texts[i])[0] for i in chosen]
    ids = [f"first-sentence-of-{corpus.ids[i]}" for i in chosen]
    judged = {query: {corpus.ids[i]: 1} for query, i in zip(ids, chosen, strict=True)}
    return Dataset(f"{full.name}-known-items", corpus, {"test": QuerySet(ids, texts, judged)})


def verdict(shell: Shell, folder: Path) -> tuple[float, float, float]:
    """Mean nDCG@10 of the agent less that of single pass, its p-value, and the mean number of searches."""
    shell.eval("--checkpoint", POLICY, "--dataset", folder, "--num-queries", 0, "--output-dir", "out").ok  # noqa: B018
    results = json.loads((shell.folder / "out" / "results.json").read_text())
    test = next(t for t in results["tests"] if (t["method"], t["baseline"]) == ("rl_agent", "single_pass"))
    return test["mean_difference"], test["p_randomisation"], results["methods"]["rl_agent"]["searches"]


def test_known_items_of_the_embedded_documentation(shell: Shell, small_dataset: Dataset, tmp_path: Path) -> None:
    write_beir_folder(known_items(small_dataset, 6), tmp_path / "known")
    difference, p, _ = verdict(shell, tmp_path / "known")
    assert difference >= 0 or p > 0.05


@pytest.mark.collections
@pytest.mark.parametrize("name", ["cranfield", "cosqa"])
def test_known_items_of_real_collections(shell: Shell, collections: Path, tmp_path: Path, name: str) -> None:
    write_beir_folder(known_items(_first(load_dataset(name, data_dir=collections), 300), 100), tmp_path / "known")
    difference, p, _ = verdict(shell, tmp_path / "known")
    assert difference >= 0 or p > 0.05


def _first(full: Dataset, count: int) -> Dataset:
    """A corner of a collection, without its queries."""
    corpus = full.corpus
    return Dataset(full.name, Corpus(corpus.ids[:count], corpus.titles[:count], corpus.texts[:count]), {})
