"""Text of any script at its one door: words, terms to search by, length, questions, and what counts as the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl import text as door


@given(st.text(st.characters(max_codepoint=127)))
def test_english_words_are_what_they_always_were(text: str) -> None:
    long = [word for word in door.words(text) if len(word) > 1]
    assert long == re.findall(r"\b\w\w+\b", text.lower())
    assert door.terms(text) == door.words(text)


@given(st.text())
def test_any_text_has_words_terms_and_a_length(text: str) -> None:
    words = door.words(text)
    assert 0 <= door.size(text) <= len(words) <= len(door.terms(text))
    assert door.same(text, door.canonical(text))


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("故宫博物院", ["故", "故宫", "宫", "宫博", "博", "博物", "物", "物院", "院"]),
        ("日本のカー", ["日", "日本", "本", "本の", "の", "のカ", "カ", "カー", "ー"]),
        ("서울은 크다", ["서", "서울", "울", "울은", "은", "크", "크다", "다"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("Привет, МИР", ["привет", "мир"]),
        ("GPT4模型v2", ["gpt4", "模", "模型", "型", "v2"]),
        ("don't John’s l'eau", ["don", "john", "l", "eau"]),
        ("vitamin C, type 2", ["vitamin", "c", "type", "2"]),
    ],
)
def test_terms_by_script(text: str, terms: list[str]) -> None:
    assert door.terms(text) == terms


def test_thai_is_cut_into_characters_with_their_vowels_and_pairs_of_them() -> None:
    terms = door.terms("น้ำตาล")
    assert set(door.terms("ตาล")) <= set(terms)
    assert all(term[0] != "\u0e49" for term in terms), "a tone mark stays with its letter"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("ﬁne", "fine"),
        ("ＡＢＣ１２", "abc12"),
        ("Straße", "STRASSE"),
        ("ΟΔΟΣ", "οδος"),
        ("inter\u00adnational", "international"),
        ("zero\u200bwidth", "zerowidth"),
        ("ｶﾀｶﾅ", "カタカナ"),
    ],
)
def test_forms_of_a_word_are_one_term(one: str, other: str) -> None:
    assert door.terms(one) == door.terms(other)


@pytest.mark.parametrize("mark", [*"?？؟՞፧⸮;", "\u037e"])
def test_questions_end_with_the_mark_of_their_script(mark: str) -> None:
    assert door.is_question(f"νερό{mark} ")
    assert door.cut_question(f"νερό{mark} και") == ("νερό", mark)


def test_a_semicolon_asks_in_greek_alone() -> None:
    assert not door.is_question("for (;;)")
    assert not door.is_question("water;")


@pytest.mark.parametrize("text", ["", "  ", "a.", "好。"])
def test_what_is_no_question(text: str) -> None:
    assert not door.is_question(text)


def test_length_counts_characters_where_there_are_no_spaces() -> None:
    assert door.size("what is the capital of Japan") == 6
    assert door.size("故宫位于北京市中心") == 5
    assert door.size("Python 语言") == 2
    assert door.unspaced("故宫 in 北京")
    assert not door.unspaced("the word 茶 means tea")
