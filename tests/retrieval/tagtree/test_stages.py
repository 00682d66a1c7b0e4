"""The stages one after another, as a user runs them, on real documents."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from searchrl.data.beir import write_beir_folder
from searchrl.data.dataset import Corpus, Dataset, QuerySet
from searchrl.evaluation.measures import shared
from searchrl.retrieval.tagtree.tree import tree_page, tree_text
from tests.command import REPOSITORY, Shell, files
from tests.mortal import run
from tests.retrieval.tagtree.test_tree import random_tree
from tests.small_models import small_causal_lm, small_classifier
from tests.stage_commands import read, tags

CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def planted(small_folder: Path, command_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A folder where tags and tree were made."""
    shell = Shell(tmp_path_factory.mktemp("planted"), command_cache)
    made = tags(shell, "generate", "--dataset", small_folder, "--output", "tags.json").ok
    assert "tags of" in made.out
    assert "clusters on" in tags(shell, "embed", "--tags", "tags.json", "--output-dir", "tree", *CPU).ok.out
    return shell


def test_the_inventory(planted: Shell, small_dataset: Dataset) -> None:
    content = read(planted.folder / "tags.json")
    assert list(content["documents"]) == list(small_dataset.corpus.ids)
    assert content["header"]["corpus_fingerprint"] == small_dataset.corpus.fingerprint
    assert content["header"]["model"] is None
    assert all(len(tags) <= 8 for tags in content["documents"].values())
    for tag, ids in content["tags"].items():
        assert 2 <= len(ids) <= 16, "not too rare, not too common"
        assert all(tag in content["documents"][i] for i in ids)


def test_the_same_commands_write_the_same_bytes(planted: Shell, small_folder: Path) -> None:
    before = files(planted.folder)
    assert tags(planted, "generate", "--dataset", small_folder, "--output", "tags.json").ok
    assert tags(planted, "embed", "--tags", "tags.json", "--output-dir", "tree", *CPU).ok
    assert files(planted.folder) == before


def test_queries_get_paths_and_documents(planted: Shell, small_dataset: Dataset) -> None:
    queries = small_dataset.splits["test"]
    flags = ("--tree", "tree", "--output", "found.json", "--top-k", 20, "--beams", 1, 500, "--shares", 0.2, 1, *CPU)
    outcome = tags(planted, "assign", *flags).ok
    records = read(planted.folder / "found.json")
    assert [record["query_id"] for record in records] == list(queries.ids)
    known = read(planted.folder / "tags.json")["tags"]
    for record in records:
        assert len(set(record["key_ids"])) == 20
        assert record["scores"] == sorted(record["scores"], reverse=True)
        assert record["scored"] == 40
        assert record["positive_key_ids"] == [d for d, g in queries.qrels[record["query_id"]].items() if g > 0]
        scores = [way["score"] for way in record["paths"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert all(way["path"][-1] in known and len(way["path"]) > 1 for way in record["paths"])
    lines = [line.split() for line in outcome.out.splitlines()]
    rows = [line for line in lines if line[:1] in (["exact"], ["beam"])]
    assert [row[:2] for row in rows if row[0] == "beam"] == [["beam", w] for w in ("1", "500", "1", "500")]
    exact, everything = rows[0], rows[-1]
    assert everything[2:4] == ["159", "100.0%"]
    assert everything[-1] == "100.0%"
    assert everything[5:7] == exact[4:6], "going everywhere is exact search"
    assert float(rows[1][3].rstrip("%")) <= 20.2


def test_texts_may_be_given_and_a_reward_model_asked(planted: Shell, tmp_path: Path) -> None:
    head = small_classifier(tmp_path / "head")
    flags = ("--tree", "tree/tree", "--query", "parse a date", "open a file", "--top-k", 5, "--beam-width", 1, *CPU)
    plain = tags(planted, "assign", *flags, "--output", "one.json").ok
    assert "query-1: parse a date" in plain.out
    assert "exact" not in plain.out, "nobody judged these"
    guided = tags(planted, "assign", *flags, "--output", "two.json", "--reward-model", head, "--reward-weight", 1).ok
    assert "query-2: open a file" in guided.out
    one, two = read(planted.folder / "one.json"), read(planted.folder / "two.json")
    assert [r["paths"] for r in one] != [r["paths"] for r in two]


def test_ranked_records_can_be_reranked(planted: Shell, small_folder: Path, tmp_path: Path) -> None:
    head = small_classifier(tmp_path / "head")
    assert tags(planted, "assign", "--tree", "tree", "--output", "r.json", "--top-k", 10, "--no-measure", *CPU).ok
    flags = ("--embed-output", "r.json", "--output-eval", "r_eval.json", "--model-name", head, "--top-k", 3)
    assert planted.rerank("--dataset-path", small_folder, *flags, *CPU).ok


@pytest.mark.parametrize(
    ("stage", "flags", "message"),
    [
        ("generate", "--output x.json --dataset zoo", "unknown dataset 'zoo'"),
        (
            "generate",
            "--output x.json --dataset {data} --min-documents 150",
            "no phrase occurs in 150 to 150",
        ),
        ("generate", "--output x.json --dataset {data} --max-share 2", "max_share 2.0: must be above 0"),
        ("generate", "--output x.json --dataset {data} --tags-per-document 0", "--tags-per-document 0"),
        ("generate", "--output x.json --dataset {data} --max-documents 9", "max_documents is for language models"),
        ("generate", "--output . --dataset {data}", "is a folder; name a file with output"),
        ("generate", "--output x.json --dataset {data} --tagger lm --model-name ./none", "none"),
        ("embed", "--tags none.json --output-dir x", "none.json: no such file"),
        ("embed", "--tags tags.json --output-dir x --dataset pydocs", "made for another collection"),
        ("embed", "--tags tags.json --output-dir x --branching 1", "--branching 1: must be at least 2"),
        ("embed", "--tags tags.json --output-dir x --text-share 2", "--text-share 2.0: must lie between 0 and 1"),
        ("embed", "--tags tags.json --output-dir tags.json", "tags.json"),
        ("assign", "--tree none", "no tag tree here; searchrl tags embed makes one"),
        ("assign", "--tree tree --dataset pydocs", "the collection is not what the tree was made with"),
        ("assign", "--tree tree --beam-width 0", "--beam-width 0: must be at least 1"),
        ("assign", "--tree tree --candidates 5", "candidates 5: must be at least top_k, 100, or 0"),
        ("assign", "--tree tree --shares 0", "shares above 0"),
        ("assign", "--tree tree --output .", "is a folder; name a file with output"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    planted: Shell, small_folder: Path, stage: str, flags: str, message: str
) -> None:
    assert message in tags(planted, stage, *flags.format(data=small_folder).split()).error


def test_help_loads_nothing_heavy() -> None:
    stages = "assign, embed_tags, generate_tags"
    code = f"import sys; from searchrl.cli import tags; from searchrl.tagtree import {stages}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not {"numpy", "torch", "transformers", "scipy", "sklearn", "httpx"} & set(done.stdout.split())


@pytest.fixture(scope="module")
def few(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = small_dataset.corpus
    part = Corpus(corpus.ids[:40], corpus.titles[:40], corpus.texts[:40])
    path = tmp_path_factory.mktemp("few") / "few"
    queries = QuerySet(["q"], ["what is it?"], {"q": {part.ids[0]: 1}})
    write_beir_folder(Dataset("few", part, {"test": queries}), path)
    return path


@pytest.fixture(scope="module")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_causal_lm(tmp_path_factory.mktemp("lm") / "tiny", "qwen2")


def answers(cache: Path) -> int:
    """Answers of the language model that are kept so far."""
    try:
        store = sqlite3.connect(f"file:{cache / 'language_model.sqlite'}?mode=ro", uri=True)
        try:
            return int(store.execute("SELECT count(*) FROM answers").fetchone()[0])
        finally:
            store.close()
    except sqlite3.Error:
        return 0


def test_a_killed_language_model_stage_goes_on_to_the_same_end(few: Path, tiny_lm: Path, tmp_path: Path) -> None:
    flags = ["generate", "--dataset", str(few), "--tagger", "lm", "--model-name", str(tiny_lm), *CPU]
    flags += ["--output", "tags.json", "--tags-per-document", "4"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    moments = run("tags", flags, whole)
    total = answers(tmp_path / "whole.cache")
    run("tags", flags, killed, dies_at=moments // 2)
    assert 0 < answers(tmp_path / "killed.cache") < total
    assert not (killed / "tags.json").exists()
    run("tags", flags, killed)
    assert answers(tmp_path / "killed.cache") == total
    assert files(killed) == files(whole)
    content = read(whole / "tags.json")
    assert content["header"]["tagger"] == "lm-choose"
    assert str(tiny_lm) in content["header"]["model"]


def test_a_model_that_writes_may_give_nothing(few: Path, tiny_lm: Path, shell: Shell) -> None:
    flags = ("--dataset", few, "--tagger", "lm-write", "--model-name", tiny_lm, "--max-documents", 2, *CPU)
    outcome = tags(shell, "generate", *flags, "--output", "tags.json", "--min-documents", 2)
    assert "none is shared by 2 documents: lower min_documents" in outcome.error


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_tree_is_shown_whole() -> None:
    tree, _ = random_tree(4)
    tree.tags[0] = "<script>alert(1)</script>"
    lines = tree_text(tree).splitlines()
    assert len(lines) == len(tree)
    assert sum(line.strip().startswith("- ") for line in lines) == len(tree.tags)
    assert lines[0].endswith(f"[{len(tree.tags)} tags, 60 documents]")
    page = tree_page(tree, "Title", {"fact": "<b>"}, [f"text of {i}" for i in range(60)])
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert "<script>alert(1)</script>" in parsed.text
    assert parsed.tags.count("details") == len(tree)
    assert "http" not in page.replace("http-equiv", "")


def test_overlap() -> None:
    assert shared(np.array([[1, 2, -1], [5, 6, 7]]), np.array([[2, 3, -1], [5, 6, 7]])) == 0.75


@pytest.mark.collections
def test_cranfield_loses_little(collections: Path, tmp_path: Path) -> None:
    """On the index that an earlier command left in the cache, because encoding the documents takes minutes."""
    from searchrl.evaluation.stages import load_collection
    from searchrl.files import cache_path
    from searchrl.models.encoder import Encoder

    if not (collections / "cranfield" / "corpus.jsonl").is_file():
        pytest.skip("cranfield is not among the collections")
    corpus = load_collection(str(collections / "cranfield"), None, None).corpus
    if not (cache_path() / "index" / f"{corpus.fingerprint}-{Encoder().fingerprint}").is_dir():
        pytest.skip("cranfield is not encoded in SEARCHRL_CACHE: python -m searchrl.evaluation.embed does it")
    shell = Shell(tmp_path, cache_path())
    assert tags(shell, "generate", "--dataset", collections / "cranfield", "--output", "t.json").ok
    assert tags(shell, "embed", "--tags", "t.json", "--output-dir", "t", *CPU).ok
    outcome = tags(shell, "assign", "--tree", "t", "--beams", 32, "--shares", 0.1, *CPU).ok
    rows = {line.split()[0]: line.split() for line in outcome.out.splitlines() if line[:5] in ("exact", "beam ")}
    assert rows["beam"][2] == "10.0%"
    assert float(rows["beam"][4]) >= float(rows["exact"][3]) - 0.01
