"""What callers pass as texts, looked at before work begins."""

from __future__ import annotations

from collections.abc import Iterable

from searchrl.errors import DataError


def text_list(name: str, texts: Iterable[str]) -> list[str]:
    """The texts as a list. Raises DataError where ``texts`` is a single text, or holds something else than texts."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise DataError(f"{name} must be a list of texts, not {texts!r:.60}; put one text into a list")
    listed = list(texts)
    for i, text in enumerate(listed):
        if not isinstance(text, str):
            raise DataError(f"{name}[{i}] is not a text: {text!r:.60}")
    return listed
