"""Which document is a query itself: by its text, by its id if that is asked for, and never one that is relevant."""

from __future__ import annotations

import numpy as np
import pytest

from searchrl.data.dataset import Corpus, Dataset, QuerySet, with_own_document
from searchrl.data.own_document import own_document, own_ids, without

CORPUS = Corpus(
    ["0", "1", "2", "3", "4"],
    ["", "Tea", "", "", ""],
    ["Coal burns.", "Tea grows in China.", "Salt  is\nmined.", "Caf\u00e9 noir", "Salt is mined."],
)


def asked(rule: str = "text", **texts: str) -> QuerySet:
    return QuerySet([i.lstrip("_") for i in texts], list(texts.values()), {}, rule)  # type: ignore[arg-type]


def test_ids_that_coincide_prove_nothing() -> None:
    queries = asked(_0="what burns?", _1="where does tea grow?")
    assert own_document(queries, CORPUS).tolist() == [-1, -1]
    assert own_document(queries, CORPUS).dtype == np.int64


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("Coal burns.", 0),
        ("Tea grows in China.", 1),
        ("Tea Tea grows in China.", 1),
        ("Salt is mined.", 2),
        ("Cafe\u0301  noir", 3),
        ("coal burns.", -1),
        ("Tea", -1),
    ],
)
def test_the_same_text_does_whatever_its_white_space_and_unicode_form(text: str, document: int) -> None:
    assert own_document(asked(q=text), CORPUS).tolist() == [document]


def test_of_several_with_the_text_it_is_the_one_with_the_id() -> None:
    assert own_document(asked(_4="Salt is mined.", q="Salt is mined."), CORPUS).tolist() == [4, 2]


def test_the_rule_can_be_chosen() -> None:
    texts = {"_0": "what burns?", "q": "Coal burns."}
    found = {rule: own_document(asked(rule, **texts), CORPUS).tolist() for rule in ("text", "id", "none")}
    assert found == {"text": [-1, 0], "id": [0, -1], "none": [-1, -1]}
    dataset = Dataset("d", CORPUS, {"test": asked("text", **texts)})
    assert with_own_document(dataset, "id").splits["test"].only([0]).own_document == "id"


@pytest.mark.parametrize("rule", ["text", "id"])
def test_a_relevant_document_is_never_left_out(rule: str) -> None:
    queries = QuerySet(["0", "1"], ["Coal burns.", "Tea grows in China."], {"0": {"0": 1}, "1": {"1": 0}}, rule)  # type: ignore[arg-type]
    assert own_document(queries, CORPUS).tolist() == [-1, 1]
    assert own_ids(queries, CORPUS) == {"1": "1"}
    run = {"0": {"0": 2.0, "1": 1.0}, "1": {"1": 2.0, "0": 1.0}, "foreign": {"1": 1.0}}
    assert without(run, own_ids(queries, CORPUS)) == {**run, "1": {"0": 1.0}}
