from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.errors import DataError
from searchrl.fitting.candidates import draw_others, ladder
from searchrl.fitting.lists import divide, joined, lists_from_qrels, preference_quality
from searchrl.fitting.records import (
    PreferenceList,
    message,
    read_lists,
    write_pairs,
)
from searchrl.fitting.settings import PreferenceDataConfig

TEXTS = st.text(min_size=1, max_size=12).filter(
    lambda text: text.strip() and not any(0xD800 <= ord(c) <= 0xDFFF for c in text)
)


def lists(levels):
    return st.tuples(st.lists(TEXTS, min_size=len(levels), max_size=len(levels)), TEXTS).map(
        lambda drawn: PreferenceList([drawn[1]] * len(levels), drawn[0], levels, "query_id q")
    )


LEVELS = st.lists(st.integers(0, 3), min_size=2, max_size=5).filter(lambda levels: len(set(levels)) > 1)


@given(st.lists(LEVELS.flatmap(lists), min_size=1, max_size=4))
def test_lists_come_back(tmp_path_factory: pytest.TempPathFactory, drawn: list[PreferenceList]) -> None:
    path = tmp_path_factory.mktemp("lists") / "l.json"
    records = []
    for one in drawn:
        members = zip(one.queries, one.documents, strict=True)
        batch = [{"msg": message(query, document), "query_id": one.group} for query, document in members]
        records.append({"batch": batch, "dpo_pairs": [list(pair) for pair in one.pairs]})
    path.write_text(json.dumps(records))
    for one, back in zip(drawn, read_lists(path), strict=True):
        assert (list(back.queries), list(back.documents)) == (list(one.queries), list(one.documents))
        assert back.pairs == one.pairs


def test_pairs_come_back_as_a_reward_model_reads_them(tmp_path: Path) -> None:
    pair = {"query": "q", "chosen": "c", "rejected": "r", "query_id": 3, "df_id": 7, "chosen_sentence_id": 1}
    write_pairs(tmp_path / "p.json", [pair])
    record = json.loads((tmp_path / "p.json").read_text())[0]
    assert record["chosen_msg"] == [{"role": "user", "content": "q"}, {"role": "assistant", "content": "c"}]
    assert record["chosen_sentence_id"] == 1
    assert read_lists(tmp_path / "p.json") == [PreferenceList(["q", "q"], ["c", "r"], [1, 0], "query_id 3", "df_id 7")]


BATCH = [{"msg": message("q", d)} for d in "abc"]


@pytest.mark.parametrize(
    ("record", "levels"),
    [
        ({"batch": BATCH, "dpo_pairs": [[0, 1], [0, 2], [1, 2]]}, [2, 1, 0]),
        ({"batch": BATCH, "dpo_pairs": [[0, 1], [0, 2]]}, [1, 0, 0]),
        ({"query": "q", "correspond_key": "a", "less_relevant_keys": ["b", "c"]}, [2, 1, 0]),
        ({"key": "k", "queries": ["a", "b"], "df_id": 1}, [1, 0]),
        ({"query": "q", "correspond_keys": ["a"], "sampled_keys": ["b", "c"]}, [1, 0, 0]),
        ({"query": "q", "correspond_keys": ["a"], "sampled_keys": ["b", "c"], "sampled_levels": [1, 0]}, [2, 1, 0]),
    ],
)
def test_every_kind_of_record(tmp_path: Path, record: dict, levels: list[int]) -> None:
    (tmp_path / "r.json").write_text(json.dumps([record]))
    (one,) = read_lists(tmp_path / "r.json")
    assert list(one.levels) == levels


ASKED = [{"role": "user", "content": "q"}]
TALK = [{"role": "system", "content": "s"}, *ASKED, {"role": "assistant", "content": "a"}, *ASKED]


@pytest.mark.parametrize(
    ("record", "query", "documents", "levels"),
    [
        ({"query": "q", "chosen_key": "c", "rejected_key": "r"}, "q", ["c", "r"], [1, 0]),
        ({"query": "q", "chosen_key": ["c"], "rejected_key": ["r", "s"]}, "q", ["c", "r", "s"], [1, 0, 0]),
        (
            {"query": ASKED, "chosen_key": message("q", "c")[1:], "rejected_key": message("q", "r")[1:]},
            "q",
            ["c", "r"],
            [1, 0],
        ),
        (
            {"query": TALK, "chosen_key": "c", "rejected_key": "r"},
            "system: s\nuser: q\nassistant: a\nuser: q",
            ["c", "r"],
            [1, 0],
        ),
        (
            {"chosen_msg": [*TALK, *message("q", "c")[1:]], "rejected_msg": [*TALK, *message("q", "r")[1:]]},
            "system: s\nuser: q\nassistant: a\nuser: q",
            ["c", "r"],
            [1, 0],
        ),
    ],
)
def test_keys_and_conversations(
    tmp_path: Path, record: dict, query: str, documents: list[str], levels: list[int]
) -> None:
    (tmp_path / "r.json").write_text(json.dumps([{"query_id": 1, **record}]))
    (one,) = read_lists(tmp_path / "r.json")
    assert (set(one.queries), one.documents, one.levels, one.group) == ({query}, documents, levels, "query_id 1")


def test_pairs_of_queries(tmp_path: Path) -> None:
    record = {"key": "k", "chosen_queries": ["a", "b"], "rejected_queries": ["c", "d"], "df_id": 0}
    (tmp_path / "r.json").write_text(json.dumps([record]))
    assert [list(one.queries) for one in read_lists(tmp_path / "r.json")] == [["a", "c"], ["b", "d"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{", "not JSON"),
        ([], "holds no records"),
        ({"a": 1}, "a JSON array of objects is expected"),
        ([{"a": 1}], "record 1: no preferences"),
        ([{"batch": BATCH, "dpo_pairs": [[0, 1], [1, 0]]}], "record 1: 'dpo_pairs' go in a circle"),
        ([{"batch": BATCH, "dpo_pairs": [[0, 3]]}], "[0, 3] in 'dpo_pairs' is not two different places"),
        ([{"batch": BATCH, "dpo_pairs": []}], "nothing in it is better than anything else"),
        (
            [{"batch": [{"msg": [{"role": "user", "content": "both"}]}], "dpo_pairs": []}],
            "a user's message (the query)",
        ),
        ([{"query": "q", "chosen_key": "a"}], "'rejected_key': must be a text or a list of messages, not NoneType"),
        ([{"query": [], "chosen_key": "a", "rejected_key": "b"}], "'query': is empty"),
        ([{"query": "q", "chosen_key": [{"content": "a"}], "rejected_key": "b"}], "a list of messages is expected"),
        ([{"query": " ", "correspond_key": "a", "less_relevant_keys": ["b"]}], "record 1: 'query' is empty"),
        ([{"query": "q", "correspond_key": "a", "less_relevant_keys": "b"}], "must be a list of texts"),
        (
            [{"key": "k", "chosen_queries": ["a"], "rejected_queries": []}],
            "1 'chosen_queries' and 0",
        ),
        ([{"query": "\ud800", "correspond_key": "a", "less_relevant_keys": ["b"]}], "half of a surrogate pair"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "l.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError) as caught:
        read_lists(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_family_is_never_divided() -> None:
    many = [PreferenceList(["q", "q"], ["a", "b"], [1, 0], f"q{i}", f"d{i // 4}") for i in range(400)]
    train, test = divide(many, 0, 0.2)
    assert 40 <= len(test) <= 120
    assert not {one.family for one in train} & {one.family for one in test}
    assert divide(many, 1, 0.2)[1] != test


def test_pairs_with_the_same_better_document_are_one_list() -> None:
    def pair(query: str, better: str, worse: str) -> PreferenceList:
        return PreferenceList([query] * 2, [better, worse], [1, 0], query, "d")

    ladder = PreferenceList(["q"] * 3, ["a", "b", "c"], [2, 1, 0], "q", "d")
    one, other, third = joined(
        [pair("q", "a", "b"), ladder, pair("r", "a", "b"), pair("q", "a", "c"), pair("q", "b", "c")]
    )[:3]
    assert one == PreferenceList(["q"] * 3, ["a", "b", "c"], [1, 0, 0], "q", "d")
    assert (other, third) == (ladder, pair("r", "a", "b"))
    many = [pair("q", "a", "b"), pair("q", "a", "b"), pair("q", "b", "c")]
    assert joined(many) == [pair("q", "a", "b"), pair("q", "b", "c")]
    queries = [PreferenceList(["q", "r"], ["a", "a"], [1, 0], "g"), PreferenceList(["q", "s"], ["a", "a"], [1, 0], "g")]
    assert joined(queries) == queries, "a document and two queries"


def test_from_judgments() -> None:
    corpus = Corpus([*"abcdefgh", "q1"], [""] * 9, [f"text {i}" for i in range(8)] + [""])
    queries = QuerySet(["q1", "q2"], ["one", "two"], {"q1": {"a": 2, "b": 1, "c": 0, "x": 1}, "q2": {"c": 0}})
    ranked = np.array([[0, 2, 3, 8, 4], [0, 1, 2, 3, -1]], dtype=np.int32)
    settings = PreferenceDataConfig(positives=4, negatives=2, random_negatives=1)
    (one,) = lists_from_qrels(queries, corpus, ranked, settings, 0)
    assert list(one.documents[:2]) == ["text 0", "text 1"]
    assert list(one.levels) == [2, 1, 0, 0, 0]
    assert set(one.documents[2:4]) <= {"text 2", "text 3", "text 4"}, "what is not relevant in the ranking"
    assert len(set(one.documents)) == 5
    assert one == lists_from_qrels(queries, corpus, ranked, settings, 0)[0]


class ByLength:
    """Scores a document by its length."""

    fingerprint, absolute = "length", False

    def score(self, queries, documents):
        return np.array([len(document) for document in documents], dtype=np.float32)


def test_quality_by_hand() -> None:
    judged = [
        PreferenceList(["q"] * 3, ["aaa", "aa", "a"], [2, 1, 0], "q"),
        PreferenceList(["r"] * 2, ["a", "aaaa"], [1, 0], "r"),
        PreferenceList(["s"] * 2, ["bb", "aa"], [1, 0], "s"),
    ]
    quality = preference_quality(ByLength(), judged)
    assert quality.accuracy == pytest.approx((3 + 0 + 0.5) / 5)
    assert quality.auc_within == pytest.approx((1 + 0 + 0.5) / 3)
    assert quality.margin == pytest.approx((1 + 2 + 1 - 3 + 0) / 5)
    best, rest = [3, 1, 2], [2, 1, 4, 2]
    wins = [(b > r) + (b == r) / 2 for b in best for r in rest]
    assert quality.auc == pytest.approx(np.mean(wins))


@given(st.integers(0, 60), st.integers(0, 12))
def test_a_ladder_goes_from_the_first_to_the_last(size: int, count: int) -> None:
    rungs = ladder(list(range(size)), count)
    assert len(rungs) == min(size, count)
    assert rungs == sorted(set(rungs))
    if count >= 2 and size >= 2:
        assert (rungs[0], rungs[-1]) == (0, size - 1)


@given(st.integers(1, 20), st.integers(0, 5), st.sets(st.integers(0, 19)))
def test_others_are_free_rows(rows: int, count: int, taken: set[int]) -> None:
    drawn = draw_others(np.random.default_rng(0), rows, count, taken)
    assert len(drawn) == len(set(drawn)) <= count
    assert not set(drawn) & taken
    assert all(0 <= row < rows for row in drawn)


def test_lists_that_were_held_out_of_before_are_divided_again(caplog: pytest.LogCaptureFixture) -> None:
    many = [PreferenceList(["q", "q"], ["a", "b"], [1, 0], f"q{i}", f"d{i}") for i in range(40)]
    first, taken = divide(many, 0, 0.2)
    again, test = divide(first, 0, 0.2)
    assert taken
    assert test
    assert {one.family for one in again} | {one.family for one in test} == {one.family for one in first}
    assert not {one.family for one in again} & {one.family for one in test}
    assert not caplog.records
    assert divide(many[:1], 0, 0.2) == (many[:1], [])
    assert "Nothing of 1 lists is held out" in caplog.text
    assert divide(many, 0, 0.0) == (many, [])
