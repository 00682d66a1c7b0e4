from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.models.prompts import load_prompts
from searchrl.querygen.cleaning import alike, check, clean
from searchrl.querygen.reasons import Reason

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
        ("`rset` does what?", "`rset` does what?"),
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
        (f"What {'very ' * 25}long?", "length"),
        ("What does the student ask?", "echo"),
        ("Why does rset explain what does the student ask?", "echo"),
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
    document = "DOM: a student wants to know how to save the document and its answer."
    assert check("How does a parser save the document?", [document], TEMPLATE) is None
    assert check("Where does a student wants to know lead?", [document], TEMPLATE) is None
    assert check("Where does a student wants to know lead?", [DOCUMENT], TEMPLATE) == "echo"


def test_a_question_of_two_documents_is_held_to_both() -> None:
    other = "Sends the quit command, which closes the connection to the server for good and for ever."
    copied = "Why is it that the quit command, which closes the connection to the server?"
    assert check(copied, [DOCUMENT, other], TEMPLATE) == "copied"
    assert check(copied, [DOCUMENT], TEMPLATE) is None
    straddling = "How are current mail and its quit command closed?"
    assert check(straddling, [DOCUMENT, other], TEMPLATE) is None


@given(words, st.data())
def test_no_stretch_of_the_document_passes(document: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(document) - 1))
    end = data.draw(st.integers(start + 1, len(document)))
    assert check(" ".join(document[start:end]) + "?", [" ".join(document)], TEMPLATE) in ("copied", "length")


@given(words, words)
def test_what_passes_has_3_to_25_words(question: list[str], document: list[str]) -> None:
    if check(" ".join(question) + "?", [" ".join(document)], TEMPLATE) is None:
        assert 3 <= len(question) <= 25


def test_questions_with_nearly_the_same_words_are_alike() -> None:
    assert alike("What does the rset command do?", "WHAT does rset command do")
    assert not alike("What does the rset command do?", "How is a session reset?")
