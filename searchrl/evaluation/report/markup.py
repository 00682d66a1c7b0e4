"""HTML and SVG from Python, safe by construction: whatever is not markup yet is escaped."""

from __future__ import annotations

import html
import json

VOID = {"meta", "input"}
"""HTML elements that have no end tag."""


class Markup(str):
    """HTML or SVG as it stands. A plain ``str`` is text."""

    __slots__ = ()


def element(name: str, /, *content: str | None, **attributes: object) -> Markup:
    """Make one element; text in ``content`` is escaped, Markup and order kept, None left out.

    attributes: ``_`` stands for ``-`` and may end a name that Python reserves (``class_``, ``stroke_width``); None and
    False leave the attribute out, True writes it without a value, floats are coordinates and get one decimal.
    """
    written = [_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()]
    start = f"<{name}{''.join(written)}>"
    return Markup(start if name in VOID else f"{start}{join(*content)}</{name}>")


def join(*content: str | None) -> Markup:
    """Put markup and text side by side."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(part) for part in content if part))


def embedded_json(value: object) -> Markup:
    """Write a value as JSON that can stand in a script element.

    Plain ASCII without ``<``, ``>`` and ``&``: no text in it can end the element or begin a comment, and U+2028 and
    lone surrogates are escapes. Raises ValueError on NaN, which JSON lacks.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(text)}"'
