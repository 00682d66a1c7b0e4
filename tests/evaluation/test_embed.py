"""The embed stage: its files, its agreement with the index it is made of, and going on after a kill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.data import download
from searchrl.data.beir import write_beir_folder
from searchrl.data.dataset import Corpus, Dataset, QuerySet
from searchrl.data.trec import read_trec_run
from searchrl.errors import DataError
from searchrl.evaluation.measures import evaluate
from searchrl.evaluation.stages import load_collection, search, search_with_torch
from searchrl.models.encoder import Encoder
from searchrl.retrieval import dense
from searchrl.retrieval.dense import DenseIndex, build_dense_index, encode_in_parts
from tests.command import REPOSITORY, Shell, files
from tests.evaluation.stage_case import read, table
from tests.formats import cosine_tolerance
from tests.servers.openai import Server, running
from tests.tiny import WordEncoder, corpus_of

OUTPUTS = ("--output", "e.json", "--output-eval", "e_eval.json", "--device", "cpu")


@pytest.fixture(scope="module")
def embedded(small_folder: Path, command_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A folder where the stage has run."""
    shell = Shell(tmp_path_factory.mktemp("embedded"), command_cache)
    shell.embed("--dataset-path", small_folder, *OUTPUTS, "--top-k", 30).ok  # noqa: B018
    return shell


def test_the_four_files(embedded: Shell, small_dataset: Dataset) -> None:
    assert sorted(files(embedded.folder)) == ["e.json", "e_eval.json", "e_eval.metrics.json", "e_eval.run"]
    queries, corpus = small_dataset.splits["test"], small_dataset.corpus
    records, results = read(embedded.folder / "e.json"), read(embedded.folder / "e_eval.json")
    assert [record["query_id"] for record in records] == list(queries.ids) == list(results)
    for record in records:
        assert list(record) == ["query_id", "key_ids", "scores", "positive_key_ids"]
        assert len(record["key_ids"]) == len(set(record["key_ids"])) == len(record["scores"]) == 30
        assert set(record["key_ids"]) <= set(corpus.ids)
        assert record["scores"] == sorted(record["scores"], reverse=True)
        grades = queries.qrels[record["query_id"]]
        assert record["positive_key_ids"] == [d for d, grade in grades.items() if grade > 0]
        assert list(results[record["query_id"]]) == record["key_ids"]
        assert list(results[record["query_id"]].values()) == pytest.approx(record["scores"], abs=1e-5)
    trec = read_trec_run(embedded.folder / "e_eval.run")
    assert trec.tag == "embed"
    assert {q: [d for d, _ in r] for q, r in trec.rankings.items()} == {q: list(d) for q, d in results.items()}
    values = evaluate(results, queries.qrels)
    content = read(embedded.folder / "e_eval.metrics.json")["embed"]
    assert content["per_query"] == values
    assert content["mean"] == pytest.approx({m: np.mean(list(v.values())) for m, v in values.items()})


def test_rankings_are_those_of_the_encoder(embedded: Shell, small_dataset: Dataset) -> None:
    """In all scores of a few documents, of every query; that the best are found is the index's own test."""
    encoder, corpus, queries = Encoder(), small_dataset.corpus, small_dataset.splits["test"]
    some = range(0, len(corpus), 8)
    documents = encoder.encode([corpus.full_text(i) for i in some])
    cosine = encoder.encode(queries.texts, kind="query") @ documents.T
    close = cosine_tolerance()
    for row, record in zip(cosine, read(embedded.folder / "e.json"), strict=True):
        found = dict(zip(record["key_ids"], record["scores"], strict=True))
        for value, i in zip(row, some, strict=True):
            if corpus.ids[i] in found:
                assert found[corpus.ids[i]] == pytest.approx(value, abs=close)
            else:
                assert value <= record["scores"][-1] + close


def test_the_same_command_writes_the_same_bytes_and_says_what_it_wrote(embedded: Shell, small_folder: Path) -> None:
    before = files(embedded.folder)
    outcome = embedded.embed("--dataset-path", small_folder, *OUTPUTS, "--top-k", 30)
    assert files(embedded.folder) == before
    mean = read(embedded.folder / "e_eval.metrics.json")["embed"]["mean"]
    assert table(outcome) == {"embed": {measure: f"{value:.4f}" for measure, value in mean.items()}}
    assert "159 documents, 12 test queries" in outcome.out
    assert "encode documents: 100%" in outcome.err or "encode documents" not in outcome.err
    assert not list((embedded.cache / "index").glob(".*")), "no finished parts are left behind"


def test_a_querys_own_document_is_never_ranked(shell: Shell, small_dataset: Dataset) -> None:
    document = small_dataset.corpus.ids[0]
    queries = QuerySet([document], [small_dataset.corpus.full_text(0)], {document: {small_dataset.corpus.ids[1]: 1}})
    write_beir_folder(Dataset("own", small_dataset.corpus, {"test": queries}), shell.folder / "own")
    shell.embed("--dataset-path", "own", *OUTPUTS, "--top-k", 1000).ok  # noqa: B018
    (record,) = read(shell.folder / "e.json")
    assert sorted(record["key_ids"]) == sorted(set(small_dataset.corpus.ids) - {document})


def test_a_served_encoder_ranks_alike(shell: Shell, small_dataset: Dataset, tmp_path: Path) -> None:
    corpus, queries = small_dataset.corpus, small_dataset.splits["test"].take(6)
    few = Corpus(corpus.ids[:24], corpus.titles[:24], [text[:80] for text in corpus.texts[:24]])
    judged = QuerySet(queries.ids, queries.texts, {i: {few.ids[0]: 1} for i in queries.ids})
    write_beir_folder(Dataset("few", few, {"test": judged}), tmp_path / "few")
    here, served = ("here.json", "here_eval.json"), ("served.json", "served_eval.json")
    with running(Server(encoder=Encoder())) as server:
        for (output, output_eval), engine in ((here, ()), (served, ("--engine", "http", "--base-url", server.url))):
            outputs = ("--output", output, "--output-eval", output_eval)
            shell.embed("--dataset-path", "few", *outputs, "--device", "cpu", "--no-cache", *engine).ok  # noqa: B018
    for ours, theirs in zip(read(shell.folder / here[0]), read(shell.folder / served[0]), strict=True):
        assert len(ours["key_ids"]) == 24
        assert theirs["key_ids"][:10] == ours["key_ids"][:10]
        assert theirs["scores"] == pytest.approx(ours["scores"], abs=1e-4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--split", "train", "--output-eval", "e.json"], "e.json: would be overwritten; give another --output-eval"),
        (["--output-eval", "x.run"], "x.run: name a .json file with --output-eval"),
        (["--output", "x.run", "--output-eval", "x.json"], "x.run: would be overwritten"),
        (["--output", "."], "is a folder; name a file with --output"),
        (["--top-k", "0"], "--top-k 0: must be at least 1"),
        (["--tensor-parallel-size", "2"], "--tensor-parallel-size above 1 needs --engine vllm"),
        (["--num-instances", "2"], "--num-instances 2: one process runs one copy of a model."),
        (["--engine", "vllm"], "start a server and use --engine http"),
        (["--dataset-path", "nowhere/zoo"], "nowhere/zoo: no such folder"),
        (["--dataset-path", "scifactt"], "unknown dataset 'scifactt'; did you mean "),
        (["--similarity-device", "cuda:99"], "device 'cuda:99' is not here"),
        (["--model-name", "./no-model"], "no-model"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(shell: Shell, small_folder: Path, flags: list[str], message: str) -> None:
    assert message in shell.embed("--dataset-path", small_folder, *OUTPUTS, *flags).error
    assert not list(shell.folder.iterdir())


def test_a_split_without_judgments_names_those_there_are(shell: Shell, small_dataset: Dataset) -> None:
    splits = {"test": small_dataset.splits["test"]}
    write_beir_folder(Dataset("one", small_dataset.corpus, splits), shell.folder / "one")
    outcome = shell.embed("--dataset-path", "one", *OUTPUTS, "--split", "train")
    assert outcome.error.endswith("has no train queries with judgments; splits that have: test")


class Killed(Exception):
    """Stands for a power cut."""


class Mortal(WordEncoder):
    """Dies after so many texts."""

    def __init__(self, life: int) -> None:
        super().__init__()
        self.life = life

    def encode(self, texts, **how):
        if self.encoded + len(texts) > self.life:
            raise Killed
        return super().encode(texts, **how)


TEXTS = [f"text {i} of {'many ' * (i % 7)}" for i in range(100)]


def test_what_was_encoded_before_a_kill_is_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "PART_TEXTS", 30)
    parts: dict = {}
    with pytest.raises(Killed):
        encode_in_parts(Mortal(70), TEXTS, parts, False)
    survivor = WordEncoder()
    vectors = encode_in_parts(survivor, TEXTS, parts, False)
    assert survivor.encoded == 40
    np.testing.assert_array_equal(vectors, encode_in_parts(WordEncoder(), TEXTS, {}, False))
    whole = WordEncoder().encode(TEXTS, kind="document", show_progress=False, description="")
    np.testing.assert_allclose(vectors, whole, atol=1e-6)
    assert encode_in_parts(survivor, [], {}, False).shape == (0, 16)


def test_a_killed_command_goes_on_from_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "PART_TEXTS", 30)
    corpus = corpus_of(*TEXTS)
    with pytest.raises(Killed):
        build_dense_index(corpus, Mortal(70), tmp_path, show_progress=True, resumable=True)
    assert not [path for path in (tmp_path / "index").iterdir() if not path.name.startswith(".")]
    survivor = WordEncoder()
    index = build_dense_index(corpus, survivor, tmp_path, show_progress=True, resumable=True)
    assert survivor.encoded == 40
    np.testing.assert_allclose(index.vectors, build_dense_index(corpus, WordEncoder(), None, False).vectors, atol=1e-6)
    assert not list((tmp_path / "index").glob(".*"))
    build_dense_index(corpus, Mortal(0), tmp_path, show_progress=True, resumable=True)


vectors = st.integers(1, 40).flatmap(
    lambda n: st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=n, max_size=n)
)


@given(documents=vectors, queries=vectors, k=st.integers(1, 50), seed=st.integers(0, 99))
def test_a_devices_search_finds_what_the_index_finds(documents: list, queries: list, k: int, seed: int) -> None:
    index, asked = DenseIndex(np.array(documents, dtype=np.float32)), np.array(queries, dtype=np.float32)
    exclude = np.random.default_rng(seed).integers(-1, len(index), len(asked)).astype(np.int32)
    expected = search(index, asked, k, exclude, "cpu")
    found = search_with_torch(index, asked, k, exclude, "cpu")
    np.testing.assert_array_equal(found.scores, expected.scores)
    for i in range(len(asked)):  # of equal scores at the end of a list, any may be in it
        inside = expected.scores[i] > expected.scores[i, -1]
        np.testing.assert_array_equal(found.documents[i, inside], expected.documents[i, inside])
        there = found.documents[i][found.documents[i] >= 0]
        assert len(set(there.tolist())) == len(there)
        assert exclude[i] not in there
        np.testing.assert_array_equal(asked[i] @ index.vectors[there].T, found.scores[i][found.documents[i] >= 0])


def test_a_missing_collection_is_downloaded_to_where_its_path_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(name: str, folder: Path, mirror: str | None) -> Path:
        asked.append((name, folder, mirror))
        raise DataError("no network in this test")

    monkeypatch.setattr(download, "fetch_beir", fetch)
    with pytest.raises(DataError, match="no network"):
        load_collection(str(tmp_path / "sets" / "nfcorpus"), None, "http://mirror")
    with pytest.raises(DataError, match="no such folder"):
        load_collection(str(tmp_path / "sets" / "mine"), None, None)
    assert asked == [("nfcorpus", tmp_path / "sets", "http://mirror")]


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from searchrl.evaluation import compare, embed, ndcg, rerank; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not {"numpy", "torch", "transformers", "scipy", "beir", "httpx"} & set(done.stdout.split())


@pytest.mark.collections
def test_scifact_reaches_its_published_ndcg(collections: Path, tmp_path: Path) -> None:
    """On the index that an earlier command left in the cache, because encoding 5,183 documents takes minutes."""
    import os

    from searchrl.files import cache_path

    if not (collections / "scifact" / "corpus.jsonl").is_file():
        pytest.skip("scifact is not among the collections")
    corpus = load_collection(str(collections / "scifact"), None, None).corpus
    if not (cache_path() / "index" / f"{corpus.fingerprint}-{Encoder().fingerprint}").is_dir():
        pytest.skip("scifact is not encoded in SEARCHRL_CACHE: python -m searchrl.evaluation.embed does it")
    shell = Shell(tmp_path, Path(os.environ.get("SEARCHRL_CACHE") or cache_path()))
    outcome = shell.embed("--dataset-path", collections / "scifact", *OUTPUTS)
    assert float(table(outcome)["embed"]["nDCG@10"]) == pytest.approx(0.645, abs=0.001)
