from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.data.query_bank import (
    BankHeader,
    BankQuery,
    QueryBank,
    load_query_bank,
    load_query_bank_for,
    write_query_bank,
)
from searchrl.errors import DataError

CORPUS = Corpus(["d1", "d2"], ["", ""], ["whales", "sharks"])
HEADER = BankHeader("smollm2-135m", "3", CORPUS.fingerprint, 42)
BANK = QueryBank(
    HEADER,
    [
        BankQuery("g1", "what is a whale", "single", ["d1"], 0.25),
        BankQuery("g2", "whale or shark", "multi", ["d2", "d1"]),
        BankQuery("g3", "a shark that is a mammal", "adversarial", []),
    ],
)


def test_sources_become_judgments(tmp_path):
    write_query_bank(tmp_path / "bank.jsonl", BANK)
    assert load_query_bank_for(tmp_path / "bank.jsonl", CORPUS).query_set() == QuerySet(
        ["g1", "g2", "g3"],
        ["what is a whale", "whale or shark", "a shark that is a mammal"],
        {"g1": {"d1": 1}, "g2": {"d2": 1, "d1": 1}},
    )


def test_the_file_is_as_documented(tmp_path):
    write_query_bank(tmp_path / "bank.jsonl", BANK)
    lines = [json.loads(line) for line in (tmp_path / "bank.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "searchrl_query_bank": 1,
        "model": "smollm2-135m",
        "prompt_version": "3",
        "corpus_fingerprint": CORPUS.fingerprint,
        "seed": 42,
        "judge": None,
        "settings": {},
    }
    assert lines[1] == {
        "_id": "g1",
        "text": "what is a whale",
        "type": "single",
        "source_ids": ["d1"],
        "difficulty": 0.25,
    }
    assert lines[2]["difficulty"] is None


@settings(deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"])),
    difficulty=st.none() | st.floats(allow_nan=False),
    seed=st.integers(),
    settings=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()),
)
def test_whatever_is_written_reads_back(tmp_path_factory, text, difficulty, seed, settings):
    path = tmp_path_factory.mktemp("bank") / "bank.jsonl"
    header = BankHeader(text, "1", "0" * 16, seed, text, settings)
    bank = QueryBank(header, [BankQuery("g1", text, "single", ["d1"], difficulty)])
    write_query_bank(path, bank)
    assert load_query_bank(path) == bank


def test_a_bank_of_before_says_neither_judge_nor_settings(tmp_path):
    (tmp_path / "bank.jsonl").write_text(HEAD + line())
    assert load_query_bank(tmp_path / "bank.jsonl").header == BankHeader("m", "1", "f", 1, None, {})


def test_another_corpus_is_refused(tmp_path):
    write_query_bank(tmp_path / "bank.jsonl", BANK)
    with pytest.raises(DataError, match=f"another corpus.*{CORPUS.fingerprint}.*generate queries again"):
        load_query_bank_for(tmp_path / "bank.jsonl", Corpus(["d1", "d2"], ["", ""], ["whales", "crabs"]))


def test_a_source_that_does_not_exist_is_refused(tmp_path):
    write_query_bank(tmp_path / "bank.jsonl", QueryBank(HEADER, [BankQuery("g1", "a", "single", ["d7"])]))
    with pytest.raises(DataError, match="query 'g1' names 'd7', which is not in the corpus"):
        load_query_bank_for(tmp_path / "bank.jsonl", CORPUS)


HEAD = '{"searchrl_query_bank": 1, "model": "m", "prompt_version": "1", "corpus_fingerprint": "f", "seed": 1}\n'
QUERY = {"_id": "g1", "text": "a", "type": "single", "source_ids": ["d1"], "difficulty": None}


def line(**changes):
    return json.dumps({key: value for key, value in (QUERY | changes).items() if value != "absent"}) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no queries"),
        (HEAD, "holds no queries"),
        (line(), "line 1: the header of a query bank, version 1, is expected here, found something else"),
        (HEAD.replace('bank": 1', 'bank": 2') + line(), "line 1: .*version 1.*found version 2"),
        (HEAD.replace('"seed": 1', '"seed": "x"') + line(), "line 1: 'seed' must be an integer"),
        (HEAD.replace('"model": "m"', '"model": 5') + line(), "line 1: 'model' must be a string"),
        (HEAD.replace('"seed": 1', '"seed": 1, "judge": 5') + line(), "line 1: 'judge' must be a string"),
        (HEAD.replace('"seed": 1', '"seed": 1, "settings": 5') + line(), "line 1: 'settings' must be an object"),
        (
            HEAD.replace('"seed": 1', '"seed": 1, "settings": {"a": "b"}') + line(),
            "line 1: 'settings' must be an object",
        ),
        (HEAD + line() + "{", "line 3: not JSON"),
        (HEAD + line() + line(), "line 3: the id 'g1' was used before"),
        (HEAD + line(_id="absent"), "line 2: '_id' must be a string"),
        (HEAD + line(text=None), "line 2: 'text' must be a string"),
        (HEAD + line(type="double"), "line 2: 'type' must be one of single, multi, adversarial, not 'double'"),
        (HEAD + line(source_ids="d1"), "line 2: 'source_ids' must be a list"),
        (HEAD + line(source_ids=[1]), "line 2: a source id must be a string"),
        (HEAD + line(difficulty="hard"), "line 2: 'difficulty' must be a number or null"),
        (HEAD + line(difficulty=10**400), "line 2: 'difficulty' must be a number or null"),
        (HEAD + line(difficulty=True), "line 2: 'difficulty' must be a number or null"),
    ],
)
def test_a_damaged_bank_names_file_and_line(tmp_path, text, message):
    path = tmp_path / "bank.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load_query_bank_for(path, CORPUS)
    assert str(path) in str(caught.value)


LIST = [
    {"query": "what is a whale", "documents": ["d1"], "type": "single"},
    {"query": "whale or shark", "documents": {"d2": 2, "d1": 1}, "type": "multi"},
    {"query": "a shark that is a mammal", "documents": []},
]


def test_a_json_list_of_queries_documents_and_types(tmp_path):
    path = tmp_path / "query_bank.json"
    path.write_text(json.dumps(LIST))
    bank = load_query_bank_for(path, CORPUS)
    assert [query.type for query in bank.queries] == ["single", "multi", "single"]
    assert bank.query_set() == QuerySet(
        ["generated-1", "generated-2", "generated-3"],
        [fields["query"] for fields in LIST],
        {"generated-1": {"d1": 1}, "generated-2": {"d2": 2, "d1": 1}},
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds no queries"),
        ("[1]", "query 1: an object of query, documents and type"),
        ('[{"query": "q"}]', "query 1: 'documents' must be a list of ids"),
        ('[{"query": "q", "documents": {"d1": 1.5}}]', "the grade '1.5' must be an integer"),
        ('[{"query": "q", "documents": ["d1"], "type": "odd"}]', "'type' must be one of"),
        ('[{"query": "q", "documents": ["d9"]}]', "'generated-1' names 'd9', which is not in the corpus"),
        ("[", "not JSON"),
    ],
)
def test_damage_in_a_json_list_is_named(tmp_path, content, message):
    path = tmp_path / "query_bank.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        load_query_bank_for(path, CORPUS)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_real_and_generated_queries_together():
    real = QuerySet(["q1", "g1"], ["whales", "sharks"], {"q1": {"d1": 2}})
    both = real.joined(BANK.query_set())
    assert both.ids == ["q1", "g1", "g1*", "g2", "g3"]
    assert both.texts[2:] == [query.text for query in BANK.queries]
    assert both.qrels == {"q1": {"d1": 2}, "g1*": {"d1": 1}, "g2": {"d2": 1, "d1": 1}}
