"""Every prompt of the project, read from one file: ``searchrl/prompts.toml``, or a user's file laid over it.

A prompt names what is filled in as ``{query}``; a literal brace is doubled, as in ``str.format``. A user's file needs
to hold only the prompts it changes.
"""

from __future__ import annotations

import hashlib
import string
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from searchrl.errors import ConfigError, nearest

CHARACTERS_PER_WORD = 8


@dataclass(frozen=True)
class Prompts:
    """The prompts of judge, query rewriter, query generator, tagger; ``PLACEHOLDERS``: what each is filled with."""

    version: str
    """For people: which edition of the file this is. What is computed depends on the texts alone."""
    yes_no: str
    graded: str
    likelihood_context: str
    likelihood_continuation: str
    better: str
    narrow: str
    broaden: str
    single: str
    multi: str
    adversarial: str
    title: str
    question: str
    keywords: str
    key: str
    key_rungs: str
    query: str
    query_rungs: str
    unanswered: str
    tags: str
    tag_context: str
    tag_continuation: str

    def digest(self, *names: str) -> str:
        """16 hex digits that change with the text of any of the named prompts, and with nothing else."""
        texts = "\0".join(f"{name}\0{getattr(self, name)}" for name in names)
        return hashlib.sha256(texts.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def fingerprint(self) -> str:
        """Names the texts of all prompts together."""
        return self.digest(*PLACEHOLDERS)


PLACEHOLDERS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "yes_no": (frozenset({"query", "document"}), frozenset()),
    "graded": (frozenset({"query", "document"}), frozenset()),
    "likelihood_context": (frozenset({"document"}), frozenset()),
    "likelihood_continuation": (frozenset({"query"}), frozenset()),
    "better": (frozenset({"query", "first", "second"}), frozenset()),
    "narrow": (frozenset({"query"}), frozenset({"original", "documents"})),
    "broaden": (frozenset({"query"}), frozenset({"original", "documents"})),
    "single": (frozenset({"document"}), frozenset({"opening"})),
    "multi": (frozenset({"first", "second"}), frozenset({"opening"})),
    "adversarial": (frozenset({"document"}), frozenset({"opening"})),
    "title": (frozenset({"document"}), frozenset()),
    "question": (frozenset({"document"}), frozenset()),
    "keywords": (frozenset({"document"}), frozenset()),
    "key": (frozenset({"query", "document", "rung"}), frozenset()),
    "key_rungs": (frozenset(), frozenset()),
    "query": (frozenset({"document", "rung"}), frozenset()),
    "query_rungs": (frozenset(), frozenset()),
    "unanswered": (frozenset(), frozenset()),
    "tags": (frozenset({"document"}), frozenset({"count"})),
    "tag_context": (frozenset({"document"}), frozenset()),
    "tag_continuation": (frozenset({"tag"}), frozenset()),
}
"""Field of ``Prompts`` -> the placeholders that its text must have, and those that it may have besides."""

_KEYS = {
    "version": "version",
    "judge.yes_no": "yes_no",
    "judge.graded": "graded",
    "judge.likelihood.context": "likelihood_context",
    "judge.likelihood.continuation": "likelihood_continuation",
    "judge.better": "better",
    "reformulate.narrow": "narrow",
    "reformulate.broaden": "broaden",
    "generate.single": "single",
    "generate.multi": "multi",
    "generate.adversarial": "adversarial",
    "fitting.title": "title",
    "fitting.question": "question",
    "fitting.keywords": "keywords",
    "fitting.key": "key",
    "fitting.key_rungs": "key_rungs",
    "fitting.query": "query",
    "fitting.query_rungs": "query_rungs",
    "fitting.unanswered": "unanswered",
    "tag.write": "tags",
    "tag.likelihood.context": "tag_context",
    "tag.likelihood.continuation": "tag_continuation",
}
"""Where each field stands in the file."""


def beginning(text: str, words: int) -> str:
    """As much of a text as a prompt shows: so many words, and ``CHARACTERS_PER_WORD`` each, so that one unbroken string
    cannot fill the model.
    """
    return " ".join(text.split()[:words])[: words * CHARACTERS_PER_WORD]


def load_prompts(path: Path | None = None) -> Prompts:
    """Read the project's prompts, with those of the file at ``path``, if one is given, in place of their own.

    Raises ConfigError when the file cannot be read, is not TOML (naming the line), has a key that no prompt has
    (naming the nearest), or a text whose placeholders are not those its prompt is filled with.
    """
    shipped = files("searchrl").joinpath("prompts.toml")
    values = _read("prompts.toml", shipped.read_bytes())
    if path is not None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: the prompts cannot be read ({error.strerror or error}).") from error
        values = {**values, "version": f"{values['version']} with {path.name}", **_read(str(path), content)}
    missing = {field.name for field in fields(Prompts)} - set(values)
    if missing:
        raise ConfigError(f"prompts.toml: no {' or '.join(sorted(missing))}; the installation is damaged.")
    return Prompts(**values)


def _read(name: str, content: bytes) -> dict[str, str]:
    """Field -> text of one file, every text checked. ``name`` is how errors call the file."""
    try:
        table = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}: line {line} is not UTF-8 text; save the file as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not TOML: {error}.") from error
    values = {}
    for key, text in _leaves(table):
        if key not in _KEYS:
            raise ConfigError(f"{name}: unknown key {key!r}: {nearest(key, _KEYS)}.")
        if not isinstance(text, str):
            raise ConfigError(f"{name}: {key} must be a text in quotes, not {text!r}.")
        if _KEYS[key] in PLACEHOLDERS:
            _check(f"{name}: {key}", text, *PLACEHOLDERS[_KEYS[key]])
        values[_KEYS[key]] = text
    return values


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _check(where: str, text: str, required: frozenset[str], optional: frozenset[str]) -> None:
    """Raise ConfigError, beginning with ``where``, unless ``text`` has the right placeholders."""
    escape = "write {{ and }} for braces that are meant literally"
    try:
        parts = [(name, spec, how) for _, name, spec, how in string.Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise ConfigError(f"{where}: {str(error).lower()}; {escape}.") from error
    found = {name for name, _, _ in parts}
    for name in sorted(found - required - optional):
        raise ConfigError(f"{where}: unknown placeholder {{{name}}}: {nearest(name, required | optional)}; {escape}.")
    for name, spec, how in parts:
        if spec or how:
            raise ConfigError(f"{where}: write {{{name}}} alone, without a format.")
    for name in sorted(required - found):
        raise ConfigError(f"{where}: the placeholder {{{name}}} is missing.")
