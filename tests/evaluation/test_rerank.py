"""The rerank stage: scores straight from the model, mixed into the first stage's; nothing scored twice."""

from __future__ import annotations

import json
import typing
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from searchrl import config
from searchrl.data.dataset import Dataset
from searchrl.data.trec import read_trec_run
from searchrl.device import DeviceChoice
from searchrl.errors import DataError
from searchrl.evaluation.measures import evaluate
from searchrl.evaluation.results import read_records
from searchrl.evaluation.stages import score_pairs
from searchrl.models.http_client import HttpClient
from searchrl.models.language_model import FloatArray
from searchrl.models.transformers_lm import TransformersLM
from searchrl.retrieval.fusion import mix
from searchrl.reward import registry
from searchrl.reward.head import HeadReward
from searchrl.reward.reward_model import CachedReward
from tests.command import Shell, files
from tests.evaluation.stage_case import read, table
from tests.formats import TOLERANCE, in_force
from tests.servers.openai import Server, running
from tests.small_models import OverlapReward, overlap, small_causal_lm, small_classifier
from tests.tiny import corpus_of, ranking_of

DEPTH = 25


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_classifier(tmp_path_factory.mktemp("head"))


@pytest.fixture
def place(shell: Shell, small_dataset: Dataset) -> Shell:
    """A folder with a first stage's records: the documents that share most words with the query, and some others."""
    queries, corpus = small_dataset.splits["test"], small_dataset.corpus
    records = []
    for query_id, text in zip(queries.ids, queries.texts, strict=True):
        shared = np.array([overlap(text, corpus.full_text(i)) for i in range(len(corpus))])
        best = np.argsort(-shared, kind="stable")[:DEPTH]
        ids = [corpus.ids[i] for i in best]
        records.append({"query_id": query_id, "key_ids": ids, "scores": shared[best].tolist()})
    (shell.folder / "e.json").write_text(json.dumps(records))
    return shell


FLAGS = ("--embed-output", "e.json", "--output-eval", "r_eval.json", "--output", "r.json", "--device", "cpu")


def test_scores_are_the_models_and_the_order_is_the_mixture(
    place: Shell, small_folder: Path, small_dataset: Dataset, head: Path
) -> None:
    queries, corpus = small_dataset.splits["test"], small_dataset.corpus
    flags = ("--dataset-path", small_folder, *FLAGS, "--model-name", head, "--top-k", 7, "--interpolate", 0.6)
    outcome = place.rerank(*flags, "--request-batch-size", 10)
    assert outcome.ok
    reward, before = HeadReward(head, dtype=in_force().dtype), read(place.folder / "e.json")
    for record, first in zip(read(place.folder / "r.json"), before, strict=True):
        text = queries.texts[queries.ids.index(record["query_id"])]
        texts = [corpus.full_text(corpus.position[d]) for d in first["key_ids"][:7]]
        expected = reward.score([text] * 7, texts)
        np.testing.assert_allclose(record["rerank_scores"], expected, atol=TOLERANCE[in_force().dtype])
        expected = np.array(record["rerank_scores"], dtype=np.float32)
        assert (record["pre_key_ids"], record["embed_scores"]) == (first["key_ids"], pytest.approx(first["scores"]))
        mixed = mix(ranking_of(list(enumerate(first["scores"]))), expected[None, :], 0.6, "zscore")
        assert record["key_ids"] == [first["key_ids"][i] for i in mixed.documents[0]]
        assert record["scores"] == pytest.approx(mixed.scores[0].tolist(), abs=1e-3)
        assert record["positive_key_ids"] == [d for d, g in queries.qrels[record["query_id"]].items() if g > 0]
    results = read(place.folder / "r_eval.json")
    trec = read_trec_run(place.folder / "r_eval.run")
    order = {record["query_id"]: record["key_ids"] for record in read(place.folder / "r.json")}
    assert order == {q: list(d) for q, d in results.items()} == {q: [d for d, _ in r] for q, r in trec.rankings.items()}
    assert trec.tag == "rerank"
    means = {m: np.mean(list(v.values())) for m, v in evaluate(results, queries.qrels).items()}
    assert read(place.folder / "r_eval.metrics.json")["rerank"]["mean"] == pytest.approx(means)
    assert table(outcome)["rerank"] == {measure: f"{mean:.4f}" for measure, mean in means.items()}
    assert set(table(outcome)) == {"embed", "rerank"}


def test_a_weight_of_nothing_changes_nothing(place: Shell, small_folder: Path, head: Path) -> None:
    place.rerank("--dataset-path", small_folder, *FLAGS, "--model-name", head, "--interpolate", 0).ok  # noqa: B018
    before = {record["query_id"]: record["key_ids"] for record in read(place.folder / "e.json")}
    assert {q: list(d) for q, d in read(place.folder / "r_eval.json").items()} == before


def test_without_a_cache_and_with_what_it_kept_the_files_are_the_same(
    place: Shell, small_folder: Path, small_dataset: Dataset, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Shell(place.folder, place.folder.with_name("a cache of its own"))
    flags = ("--dataset-path", small_folder, *FLAGS, "--model-name", head, "--top-k", 3)
    place.rerank(*flags, "--no-cache").ok  # noqa: B018
    alone = files(place.folder)
    place.rerank(*flags).ok  # noqa: B018
    assert files(place.folder) == alone
    given = Counter[str]()
    plain = HeadReward.score

    def counted(self: HeadReward, queries: list[str], documents: list[str]) -> FloatArray:
        given.update(queries)
        return plain(self, queries, documents)

    monkeypatch.setattr(HeadReward, "score", counted)
    place.rerank(*flags).ok  # noqa: B018
    assert not given.keys() & set(small_dataset.splits["test"].texts), "nothing is scored again"
    assert files(place.folder) == alone
    place.rerank(*flags, "--interpolate", 1).ok  # noqa: B018
    assert files(place.folder) != alone


def test_by_default_a_small_language_model_judges_by_likelihood(
    place: Shell, small_folder: Path, small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lm = small_causal_lm(tmp_path_factory.mktemp("lm"))
    records = read(place.folder / "e.json")[:3]
    (place.folder / "e.json").write_text(json.dumps(records))
    flags = ("--dataset-path", small_folder, *FLAGS, "--top-k", 4, "--interpolate", 1)
    outcome = place.rerank(*flags, "--model-name", lm)
    assert outcome.ok
    scores = [score for record in read(place.folder / "r.json") for score in record["rerank_scores"]]
    assert len(scores) == 12
    assert all(score < 0 for score in scores), "mean log-probabilities a token"
    values = read(place.folder / "r_eval.metrics.json")["rerank"]["per_query"]["nDCG@10"]
    assert list(values) == list(small_dataset.splits["test"].ids), "queries without a ranking count, too"
    assert set(list(values.values())[3:]) == {0.0}


def test_a_served_model_ranks_alike_and_loses_nothing_when_it_dies(
    place: Shell, small_folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpClient, "_pause", lambda self, attempt: 0.0)
    folder = small_causal_lm(tmp_path_factory.mktemp("lm"))
    (place.folder / "e.json").write_text(json.dumps(read(place.folder / "e.json")[:4]))
    flags = ("--dataset-path", small_folder, *FLAGS, "--top-k", 3, "--request-batch-size", 4, "--dtype", "float32")
    place.rerank(*flags, "--model-name", folder).ok  # noqa: B018
    here = files(place.folder)
    with running(Server(TransformersLM(str(folder), DeviceChoice("cpu", "float32", "for tests")))) as server:
        served = ("--engine", "http", "--base-url", server.url, "--scorer", "likelihood", "--concurrency", 2)
        server.breaks_after = 15
        assert "500" in place.rerank(*flags, *served).error
        assert files(place.folder) == here, "nothing is written by halves"
        server.breaks_after = None
        server.asked.clear()
        place.rerank(*flags, *served).ok  # noqa: B018
        assert 0 < server.asked.count("/v1/completions") < 12, "the others were kept"
    ours, theirs = json.loads(here["r.json"]), read(place.folder / "r.json")
    assert [record["key_ids"] for record in theirs] == [record["key_ids"] for record in ours]


def test_a_query_for_which_nothing_was_found(place: Shell, small_folder: Path, head: Path) -> None:
    records = read(place.folder / "e.json")[:2]
    records[1] |= {"key_ids": [], "scores": []}
    flags = ("--dataset-path", small_folder, *FLAGS, "--model-name", head)
    for kept in (records, records[1:]):
        (place.folder / "e.json").write_text(json.dumps(kept))
        place.rerank(*flags).ok  # noqa: B018
        assert read(place.folder / "r_eval.json")[records[1]["query_id"]] == {}
    assert (place.folder / "r_eval.run").read_text() == ""


class Killed(Exception):
    """Stands for a power cut."""


class Mortal(OverlapReward):
    """Dies in the batch after so many pairs."""

    def __init__(self, life: int) -> None:
        super().__init__()
        self.life = life

    def score(self, queries, documents):
        if len(self.asked) + len(queries) > self.life:
            raise Killed
        return super().score(queries, documents)


def test_what_was_scored_before_a_kill_is_not_scored_again(tmp_path: Path) -> None:
    corpus = corpus_of(*(f"word{i} word{i % 5} text" for i in range(20)))
    texts = [f"word{i} text" for i in range(6)]
    documents = np.random.default_rng(0).permuted(np.tile(np.arange(20, dtype=np.int32), (6, 1)), axis=1)[:, :8]
    documents[2, 5:] = -1
    with closing(CachedReward(Mortal(30), tmp_path / "c")) as mortal, pytest.raises(Killed):
        score_pairs(mortal, corpus, texts, documents, 10)
    survivor = OverlapReward()
    with closing(CachedReward(survivor, tmp_path / "c")) as reward:
        scores = score_pairs(reward, corpus, texts, documents, 10)
    assert 15 <= len(survivor.asked) < 45 - 10
    for row, text in enumerate(texts):
        for column, document in enumerate(documents[row]):
            expected = overlap(text, corpus.texts[document]) if document >= 0 else np.nan
            assert scores[row, column] == pytest.approx(expected, nan_ok=True)


def test_the_scorers_flag_offers_what_there_is() -> None:
    assert typing.get_args(config.ScorerName) == typing.get_args(registry.ScorerName)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--top-k", "0"], "--top-k 0: must be at least 1"),
        (["--request-batch-size", "0"], "--request-batch-size 0: must be at least 1"),
        (["--interpolate", "1.5"], "--interpolate 1.5: must lie between 0 and 1"),
        (["--tensor-parallel-size", "4"], "--tensor-parallel-size above 1 needs --engine vllm"),
        (["--num-instances", "3"], "vllm serve MODEL --data-parallel-size 3"),
        (["--embed-output", "nowhere.json"], "nowhere.json: no such file"),
        (["--output", "e.json"], "e.json: would be overwritten; give another --output"),
        (["--split", "dev"], "e.json: query "),
        (["--dataset-path", "pydocs", "--split", "train"], "is not a judged one of this collection and split"),
        (["--model-name", "./no-model"], "no-model"),
        (["--engine", "http"], "--engine http needs --base-url"),
        (["--scorer", "head", "--engine", "vllm"], "scorer 'head' does not run in-process on vLLM"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(place: Shell, small_folder: Path, flags: list[str], message: str) -> None:
    assert message in place.rerank("--dataset-path", small_folder, *FLAGS, *flags).error
    assert sorted(files(place.folder)) == ["e.json"]


def test_a_document_of_another_collection(place: Shell, small_folder: Path) -> None:
    records = read(place.folder / "e.json")
    records[1]["key_ids"][2] = "no-such"
    (place.folder / "e.json").write_text(json.dumps(records))
    outcome = place.rerank("--dataset-path", small_folder, *FLAGS)
    assert outcome.error.endswith(f"query {records[1]['query_id']!r}: no document 'no-such' in this collection")


RECORD = {"query_id": "q", "key_ids": ["a", "b"], "scores": [1.0, 0.5]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no records"),
        ({"q": {"a": 1}}, "a JSON array of records is expected"),
        ([7], "record 1: an object"),
        ([RECORD, RECORD], "record 2: query 'q' is given twice"),
        ([RECORD | {"query_id": 7}], "record 1: 'query_id' must be a string, not int; write \"7\""),
        ([RECORD | {"key_ids": ["a", "a"]}], "record 1: a document of 'key_ids' is given twice"),
        ([RECORD | {"key_ids": ["a", 3]}], "record 1: document id must be a string"),
        ([RECORD | {"scores": [1.0]}], "record 1: 'scores' must be a list as long as 'key_ids'"),
        ([RECORD | {"scores": [0.5, 1.0]}], "record 1: 'scores' increase"),
        ([RECORD | {"scores": [float("nan"), 1.0]}], "the score nan of document 'a' is not a finite number"),
        ([RECORD | {"scores": [True, 0]}], "the score True of document 'a' is not a finite number"),
        ("[{", "not JSON"),
    ],
)
def test_damaged_records_name_file_and_place(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "e.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError) as caught:
        read_records(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
