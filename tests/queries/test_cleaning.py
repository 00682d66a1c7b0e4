from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.models.prompts import load_prompts
from searchrl.queries.cleaning import Reason, alike, check, clean, clean_query

TEMPLATE = load_prompts().single
DOCUMENT = "Reset the session. The rset command throws away the current mail, its sender, its recipients and its data."

words = st.lists(st.text(alphabet="abcdef", min_size=1, max_size=4), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("What does rset do?", "What does rset do?"),
        ('\n  1. The question is: "What   does rset do?"\nI hope it helps.', "What does rset do?"),
        ("What does rset do? It resets the session. Why?", "What does rset do?"),
        ("**Question:** What does rset do?", "What does rset do?"),
        ("The student asks: What does rset do?", "What does rset do?"),
        ('The student asks, "What does rset do?"', "What does rset do?"),
        ('The student asks: What does "rset" do?', 'What does "rset" do?'),
        ('What is the meaning of "rset"?', 'What is the meaning of "rset"?'),
        ('"What is the meaning of "rset"?"', 'What is the meaning of "rset"?'),
        ("Does `rset` reset?", "Does `rset` reset?"),
        ("`rset` does?", "How `rset` does?"),
        ("does rset reset?", "How does rset reset?"),
        ("The student asks: How to reset a session.", "How to reset a session?"),
        ("What a fascinating topic!", "What a fascinating topic!"),
        ("\n \n", ""),
        ("???", "?"),
    ],
)
def test_cleaning_leaves_the_question(answer: str, question: str) -> None:
    assert clean(answer, "How") == question


@given(st.text(alphabet="ab?! \n\"'*-1.:", max_size=60))
def test_a_cleaned_answer_is_one_tidy_line_with_one_question_mark_at_most(answer: str) -> None:
    question = clean(answer)
    assert question == " ".join(question.split())
    assert "?" not in question[:-1]


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("What does the rset command do?", None),
        ("", "no question"),
        ("?", "no question"),
        ("What a fascinating topic!", "no question"),
        ("What rset?", "length"),
        (f"What {'very ' * 31}long?", "length"),
        ("How do I write a question that asks?", "echo"),
        ("Write a question that?", "echo"),
        ("What is the main idea of this passage?", "about the text"),
        ("What is the answer to this question?", "about the text"),
        ("How does the student's question relate to rset?", "about the text"),
        ("What do these two passages say of rset?", "about the text"),
        ("What is the purpose of the present study?", "about the text"),
        ("The rset command throws away the current mail, its sender?", "copied"),
        ("Reset the session?", "copied"),
        ("What is the purpose of rset and what is the purpose of data?", "repeats itself"),
    ],
)
def test_each_fault_has_its_reason(question: str, reason: Reason | None) -> None:
    assert check(question, [DOCUMENT], TEMPLATE) == reason


def test_words_of_the_document_are_neither_echo_nor_about_the_text() -> None:
    document = "DOM: how to save the document and write a question that has its answer."
    assert check("How does a parser save the document?", [document], TEMPLATE) is None
    assert check("Who can write a question that has none?", [document], TEMPLATE) is None
    assert check("Who can write a question that has none?", [DOCUMENT], TEMPLATE) == "echo"


def test_a_question_of_two_documents_is_held_to_both() -> None:
    other = "Sends the quit command, which closes the connection to the server for good and for ever."
    copied = "Why the quit command, which closes the connection to the server for good?"
    assert check(copied, [DOCUMENT, other], TEMPLATE) == "copied"
    assert check(copied, [DOCUMENT], TEMPLATE) is None
    straddling = "How are current mail and its quit command closed?"
    assert check(straddling, [DOCUMENT, other], TEMPLATE) is None


def test_a_long_phrase_out_of_the_document_may_be_asked_about() -> None:
    document = "The pressure on a flat plate behind a sonic jet was measured."
    about = "How does the angle of the nozzle change what the pressure on a flat plate behind a sonic jet comes to?"
    assert check(about, [document], TEMPLATE) is None
    assert check("Why was the pressure on a flat plate behind a sonic jet measured?", [document], TEMPLATE) == "copied"


@given(words, st.data())
def test_no_stretch_of_the_document_passes(document: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(document) - 1))
    end = data.draw(st.integers(start + 1, len(document)))
    assert check(" ".join(document[start:end]) + "?", [" ".join(document)], TEMPLATE) in ("copied", "length")


@given(words, words)
def test_what_passes_has_3_to_32_words(question: list[str], document: list[str]) -> None:
    if check(" ".join(question) + "?", [" ".join(document)], TEMPLATE) is None:
        assert 3 <= len(question) <= 32


def test_questions_with_nearly_the_same_words_are_alike() -> None:
    assert alike("What does the rset command do?", "WHAT does rset command do")
    assert not alike("What does the rset command do?", "How is a session reset?")


@pytest.mark.parametrize(
    ("answer", "kind", "query"),
    [
        ("Title: The Wing\nMore", "titles", "The Wing"),
        ('"The Wing."', "titles", "The Wing"),
        ("\n\n- What lifts a wing? Air.", "questions", "What lifts a wing?"),
        (" lifts a wing?", "questions", "What lifts a wing?"),
        ("What lifts a wing", "questions", ""),
        ("What is the passage about?", "questions", ""),
        ("What?", "questions", ""),
        ("Keywords: wing, lift, wing; drag.", "keywords", "wing, lift, drag"),
        ("1. wing lift", "keywords", "wing lift"),
        ("", "titles", ""),
        ("...", "titles", ""),
        ("word " * 26, "titles", ""),
    ],
)
def test_titles_questions_and_keywords_in_an_answer(answer: str, kind: str, query: str) -> None:
    assert clean_query(answer, kind) == query
