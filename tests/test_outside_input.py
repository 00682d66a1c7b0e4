"""Files, frames and flags that nobody here wrote: one clear error, or the right thing, never a traceback."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from searchrl import Search
from searchrl.agent.checkpoint import Meta, load_policy
from searchrl.command import Harmless, printable
from searchrl.config import GameConfig, LearningConfig
from searchrl.data.download import BadArchive, unzip_beir
from searchrl.errors import CheckpointError, ConfigError, DataError, ModelError
from searchrl.evaluation.measures import parse_measure
from searchrl.fitting.records import read_lists
from searchrl.models.prompts import load_prompts
from searchrl.retrieval.dense import encode_texts
from searchrl.reward.reward_model import CachedReward, checked_scores
from searchrl.service.corpora import Facts
from tests.command import Outcome, Shell
from tests.small_models import OverlapReward
from tests.tiny import WordEncoder, corpus_of, retriever_of

LONG = "x" * 300


@pytest.mark.parametrize(
    "messages",
    [["text"], [None], [{"role": "user", "content": "q"}, "k"], [{"role": "user"}, {"role": "assistant"}], "ab", 7, {}],
)
def test_a_preference_list_of_other_messages(tmp_path: Path, messages: Any) -> None:
    pair = {"query_id": 1, "chosen_msg": messages, "rejected_msg": messages}
    (tmp_path / "lists.json").write_text(json.dumps([pair]))
    with pytest.raises(DataError, match=r"lists\.json, record 1"):
        read_lists(tmp_path / "lists.json")


def found(**changes: Any) -> Any:
    async def run() -> Any:
        async with Search(scorer=OverlapReward(), cache=False, show_progress=False) as search:
            frames = {"df_queries": pd.DataFrame({"query": ["a"]}), "df_keys": pd.DataFrame({"key": ["a", "b"]})}
            return await search.search_by_df(**{**frames, **changes})

    return asyncio.run(run())


def test_frames_with_a_column_twice() -> None:
    twice = pd.DataFrame([["a", "b"]], columns=["key", "key"])
    with pytest.raises(DataError, match="several columns 'key'"):
        found(df_keys=twice)
    ids = pd.DataFrame([["a", 1, 2]], columns=["key", "key_id", "key_id"])
    with pytest.raises(DataError, match="several columns 'key_id'"):
        found(df_keys=ids)


def test_a_group_that_is_no_name() -> None:
    with pytest.raises(DataError, match="no column 0"):
        found(group=0)
    assert len(found(df_keys=pd.DataFrame({"key": ["a", "b"], 0: [1, 2]}), group=0)) == 2


@pytest.mark.parametrize("k", [1.5, "2", True, 0, -1, 10**30, float("nan")])
def test_a_k_that_is_no_number_of_keys(k: Any) -> None:
    with pytest.raises(ConfigError, match="`k`"):
        found(k=k)


DEEP: dict[str, tuple[str, str]] = {
    "JSON": ("run.json", '{"a":' * 20_000),
    "list": ("run.json", "[" * 100_000),
    "a number without end": ("run.json", '{"learning": {"lr": ' + "9" * 5000 + "}}"),
    "infinity": ("run.json", '{"learning": {"lr": Infinity}}'),
}


@pytest.mark.parametrize("kind", DEEP)
def test_settings_nested_without_end(shell: Shell, kind: str) -> None:
    name, text = DEEP[kind]
    (shell.folder / name).write_text(text)
    assert name in shell.train("--config", name).error


@pytest.mark.parametrize("text", ["a = " + "[" * 20_000, "a = " + "{b=" * 20_000, "a = " + "9" * 5000])
def test_prompts_nested_without_end(tmp_path: Path, text: str) -> None:
    (tmp_path / "prompts.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"prompts\.toml"):
        load_prompts(tmp_path / "prompts.toml")


META: dict[str, Callable[[dict[str, Any]], object]] = {
    "an action that is none": lambda m: m.update(best_fixed=[99]),
    "no actions": lambda m: m.update(best_fixed="0"),
    "config a list": lambda m: m.update(config=[]),
    "an episode of a text": lambda m: m.update(episode="7"),
    "names that are numbers": lambda m: m.update(feature_names=[1, 2]),
    "no names": lambda m: m.update(feature_names=[]),
    "a network without end": lambda m: m.update(hidden=10**9),
    "no network": lambda m: m.update(hidden=0),
    "another kind": lambda m: m.update(kind="lstm"),
    "a dataset null": lambda m: m.update(dataset=None),
    "a score that is none": lambda m: m.update(dev_score=float("nan")),
}


@pytest.mark.parametrize("fault", META)
def test_a_policy_that_says_what_cannot_be(trained: tuple[Shell, Outcome], tmp_path: Path, fault: str) -> None:
    content = torch.load(trained[0].folder / "checkpoints" / "policy_final.pt", weights_only=True)
    meta = json.loads(content["meta"])
    META[fault](meta)
    torch.save({**content, "meta": json.dumps(meta)}, tmp_path / "policy.pt")
    with pytest.raises(CheckpointError, match="not a policy that SearchRL wrote"):
        load_policy(tmp_path / "policy.pt")


@pytest.mark.parametrize("place", ["dead", "meta", "weights"])
@pytest.mark.parametrize("value", ["text", 7, None, [], b"bytes"])
def test_a_policy_whose_parts_are_others(
    trained: tuple[Shell, Outcome], tmp_path: Path, place: str, value: object
) -> None:
    content = torch.load(trained[0].folder / "checkpoints" / "policy_final.pt", weights_only=True)
    torch.save({place: value} if place == "dead" else {**content, place: value}, tmp_path / "policy.pt")
    with pytest.raises(CheckpointError):
        load_policy(tmp_path / "policy.pt")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE answers SET value = 'text'",
        "UPDATE answers SET value = CAST(x'ff' AS TEXT)",
        "UPDATE answers SET value = 7",
        "UPDATE answers SET crc = 'text'",
        "UPDATE answers SET crc = 1.5",
        "UPDATE answers SET value = x'0000'",
        "UPDATE answers SET value = x'0000', crc = 1104745215",
    ],
)
def test_a_search_checkpoint_of_other_types_is_scored_again(tmp_path: Path, change: str) -> None:
    def score() -> np.ndarray:
        with closing(CachedReward(OverlapReward(), tmp_path / "scores.sqlite")) as reward:
            return reward.score(["a b", "b"], ["a", "b"])

    before = score()
    with closing(sqlite3.connect(tmp_path / "scores.sqlite")) as connection, connection:
        assert connection.execute(change).rowcount == 2
    np.testing.assert_array_equal(score(), before)


LONG_NAMES = [
    ("train", "--dataset", LONG),
    ("train", "--dataset", "pydocs", "--config", LONG),
    ("train", "--dataset", "pydocs", "--prompts", LONG),
    ("train", "--dataset", "pydocs", "--query-bank", LONG),
    ("train", "--dataset", "pydocs", "--encoder", LONG),
    ("train", "--dataset", "pydocs", "--lm", LONG),
    ("train", "--dataset", "pydocs", "--run-name", LONG),
    ("eval", "--checkpoint", LONG),
    ("eval", "--output-dir", LONG),
    ("generate_queries", "--output", LONG),
    ("compare", LONG, LONG),
    ("search", "--queries", LONG, "--keys", LONG),
    ("ndcg", "--dataset-path", LONG),
    ("eval", "--data-dir", "~nobody-of-this-name/x", "--dataset", "nfcorpus"),
    ("train", "--dataset", "~nobody-of-this-name/x"),
    ("train", "--dataset", "pydocs", "--lm", "~nobody-of-this-name/x"),
]


@pytest.mark.parametrize("command", LONG_NAMES, ids=" ".join)
def test_names_that_no_file_can_have(shell: Shell, command: tuple[str, ...]) -> None:
    name, *flags = command
    outcome: Outcome = getattr(shell, name)(*flags)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    "name", ["nDCG@10^20", "nDCG@1000000000", "nDCG@0", "nDCG@-1", "nDCG@" + "9" * 5000, "AP(" * 999]
)
def test_measures_that_cannot_be(name: str) -> None:
    with pytest.raises(ConfigError, match="measure"):
        parse_measure(name)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: LearningConfig(seed=2**64),
        lambda: LearningConfig(hidden=10**9),
        lambda: LearningConfig(eval_every=10**20),
        lambda: GameConfig(step_penalty=1e308),
        lambda: GameConfig(step_penalty=float("inf")),
        lambda: GameConfig(depth=10**9),
    ],
)
def test_settings_without_measure(wrong: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="must be at most"):
        wrong()


def test_a_ranking_is_no_deeper_than_a_corpus() -> None:
    retriever = retriever_of(corpus_of("a", "b", "c"), depth=1_000_000)
    assert retriever.search(retriever.queries(["a"])).documents.shape == (1, 1000)


def test_a_damaged_lzma_member(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
            archive.writestr(f"x/{name}", "some text " * 1000)
    content = bytearray(path.read_bytes())
    start = content.find(b"x/corpus.jsonl") + len("x/corpus.jsonl")
    content[start + 9 : start + 40] = bytes(31)
    path.write_bytes(bytes(content))
    with pytest.raises(BadArchive):
        unzip_beir(path, "x", tmp_path / "out")


class Bad:
    """An encoder or a reward model whose numbers are given."""

    fingerprint = "bad"
    dim = 3
    absolute = True

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def encode(self, texts: Any, **_: Any) -> Any:
        return self.answer

    def score(self, queries: Any, documents: Any) -> Any:
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        [[float("nan")] * 3],
        [[np.inf, 0, 0]],
        [[1, 2]],
        [1, 2, 3],
        [],
        None,
        "text",
        [["a", "b", "c"]],
        [[1, 2, 3], [1]],
    ],
)
def test_vectors_that_are_none(answer: Any) -> None:
    with pytest.raises(ModelError, match="encoder bad"):
        encode_texts(Bad(answer), ["text"], "query")


@pytest.mark.parametrize("answer", [[float("nan")], [np.inf], [1, 2], [], None, "text", ["a"], [[1.0]]])
def test_scores_that_are_none(answer: Any) -> None:
    with pytest.raises(ModelError, match="reward model bad"):
        checked_scores(Bad(answer), ["query"], ["document"])


def test_an_encoder_that_gives_nan_finds_nothing() -> None:
    class Half(WordEncoder):
        def encode(self, texts: Any, **settings: Any) -> Any:
            vectors = super().encode(texts, **settings)
            vectors[[i for i, text in enumerate(texts) if "bad" in text]] = np.nan
            return vectors

    async def run() -> Any:
        keys = ["good", "bad", *map(str, range(20))]
        options: dict[str, Any] = {"candidates": 3, "candidates_above": 5, "retriever": "dense"}
        async with Search(
            scorer=OverlapReward(), encoder=Half(), cache=False, show_progress=False, **options
        ) as search:
            return await search(["good"], keys)

    with pytest.raises(ModelError, match="not finite for 'bad'"):
        asyncio.run(run())


def test_control_characters_do_not_reach_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    print("a\x1b[2Jb\tc\x07\x9b\n", end="", file=Harmless(sys.stdout))
    assert capsys.readouterr().out == "a\\x1b[2Jb\tc\\x07\\x9b\n"
    assert printable("ä€ \r") == "ä€ \\r"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(changed=st.dictionaries(st.sampled_from(sorted(Meta.model_fields)), JSON, max_size=3))
def test_any_metadata_is_read_or_refused(changed: dict[str, Any]) -> None:
    good = {
        "format": "searchrl-policy",
        "kind": "gru",
        "dim": 3,
        "hidden": 8,
        "observe": "features",
        "config": {},
        "dataset": "d",
        "encoder": "e",
        "feature_names": ["a"],
        "episode": 1,
        "dev_score": 0.5,
        "best_fixed": [0, 3],
    }
    try:
        meta = Meta.model_validate_json(json.dumps({**good, **changed}))
    except ValidationError:
        return
    assert all(0 <= action < 4 for action in meta.best_fixed)
    assert 1 <= meta.hidden <= 1 << 16


@settings(max_examples=100, deadline=None)
@given(facts=st.dictionaries(st.sampled_from(sorted(Facts.model_fields)), JSON))
def test_any_facts_of_a_corpus_are_read_or_refused(facts: dict[str, Any]) -> None:
    try:
        read = Facts.model_validate(facts)
    except ValidationError:
        return
    assert read.documents >= 1
