"""The door for text of any language: how it is normalised, cut into words, measured, and where a question ends.

Scripts that put no spaces between words (Chinese, Japanese, Thai, Khmer, Lao, Burmese), and Korean, whose words carry
their particles, are cut into characters. Unicode's own properties say which script a character is of; the library
``regex`` knows them.
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from typing import Any

CHARACTERS_PER_WORD = 2
"""Of a script without spaces: a Chinese or Japanese word is about that long."""

STOPS = ".．。｡।॥۔։።။៕"
"""Full stops of many scripts."""

_QUESTION = r"[?？\u037e؟⸮՞፧꘏⳺⁇⁈⁉‽︖﹖]|(?<=\p{Greek});"
"""Question marks; a Greek one is mostly typed as a semicolon."""
_UNSPACED = r"\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Hangul}\p{scx=Bopomofo}\p{lb=Complex_Context}"


@cache
def _pattern(name: str) -> Any:
    """A pattern, made when it is first needed."""
    import regex

    return regex.compile(
        {
            # What an apostrophe cuts off ("don't", "author's") is no word of one letter.
            "word": r"(?<!\w['’])\b\w+|\w{2,}",
            "unspaced": rf"[{_UNSPACED}\p{{M}}]*[{_UNSPACED}][{_UNSPACED}\p{{M}}]*",
            "character": r"\X",
            "invisible": r"\p{Default_Ignorable_Code_Point}+",
            "question": _QUESTION,
            "asks": rf"(?:{_QUESTION})\s*$",
        }[name]
    )


def canonical(text: str) -> str:
    """The text as everything here compares and reads it: composed (NFC), as most text in the world is written.

    >>> canonical("cafe\\u0301") == "caf\\u00e9"
    True
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """The text for matching: case, width and ligatures do not count (NFKC, case folded), nor what cannot be seen."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", _pattern("invisible").sub("", text)).casefold()


def words(text: str) -> list[str]:
    """The words of a text, folded; of scripts without spaces, the characters.

    >>> words("Is the author's C++ 2 fast?")
    ['is', 'the', 'author', 'c', '2', 'fast']
    >>> words("在 Python 里")
    ['在', 'python', '里']
    """
    return [part for run in _pattern("word").findall(folded(text)) for part in _parts(run)]


def terms(text: str) -> list[str]:
    """What a text is searched by, folded: its words; of scripts without spaces, the characters and pairs of neighbours.

    >>> terms("北京 metro")
    ['北', '北京', '京', 'metro']
    """
    found: list[str] = []
    for run in _pattern("word").findall(folded(text)):
        if run.isascii():
            found.append(run)
            continue
        parts = _parts(run)
        for part, following in zip(parts, [*parts[1:], ""], strict=True):
            found.append(part)
            if following and is_unspaced(part) and is_unspaced(following):
                found.append(part + following)
    return found


@lru_cache(maxsize=1 << 16)
def is_unspaced(part: str) -> bool:
    """Whether a part of ``words`` or ``terms`` is of a script without spaces."""
    return not part.isascii() and _pattern("unspaced").match(part) is not None


def size(text: str) -> int:
    """How long a text is, in words; characters of scripts without spaces count ``1 / CHARACTERS_PER_WORD``.

    >>> size("What is it?"), size("故宫在北京的什么位置")
    (3, 5)
    """
    parts = words(text)
    characters = sum(map(is_unspaced, parts))
    return len(parts) - characters + -(-characters // CHARACTERS_PER_WORD)


def unspaced(text: str) -> bool:
    """Whether most of a text's words are of a script without spaces."""
    parts = words(text)
    return 2 * sum(map(is_unspaced, parts)) > len(parts)


def is_question(text: str) -> bool:
    """Whether a text ends with a question mark, of whatever script."""
    return _pattern("asks").search(text) is not None


def cut_question(text: str) -> tuple[str, str]:
    """A text up to its first question mark, and that mark; "" where there is none.

    >>> cut_question("故宫在哪里？它在北京。")
    ('故宫在哪里', '？')
    """
    mark = _pattern("question").search(text)
    return (text[: mark.start()], mark[0]) if mark else (text, "")


def same(one: str, other: str) -> bool:
    """Whether two texts say the same to the letter; white space and Unicode form do not count."""
    return squeezed(one) == squeezed(other)


def squeezed(text: str) -> str:
    """The canonical text with single spaces."""
    return " ".join(canonical(text).split())


def _parts(run: str) -> list[str]:
    """A run of letters, cut where a script without spaces begins or ends, and that script into characters."""
    if run.isascii():
        return [run]
    parts: list[str] = []
    last = 0
    for match in _pattern("unspaced").finditer(run):
        if match.start() > last:
            parts.append(run[last : match.start()])
        parts += _pattern("character").findall(match[0])
        last = match.end()
    return [*parts, run[last:]] if last < len(run) else parts
