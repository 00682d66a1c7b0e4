"""Every prompt of the project, read from one file: ``searchrl/prompts.toml``, or a user's file laid over it.

A prompt names what is filled in as ``{query}``; a literal brace is doubled, as in ``str.format``. A user's file needs
to hold only the prompts it changes.
"""

from __future__ import annotations

import hashlib
import re
import string
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from searchrl.errors import ConfigError, nearest, reason
from searchrl.models.language_model import Prompt, split_template

CHARACTERS_PER_WORD = 8

CONTROL = re.compile(r"<[^<>\s]+>")
"""What control tokens look like."""


def _prompt(key: str, required: str = "", optional: str = "") -> Any:
    """A prompt: where it stands in the file, the placeholders that it must have, and those that it may have besides."""
    return field(
        metadata={"key": key, "required": frozenset(required.split()), "optional": frozenset(optional.split())}
    )


@dataclass(frozen=True)
class Prompts:
    """The prompts of reward models, query rewriter, query generator, fitting and tagger."""

    version: str
    """For people: which edition of the file this is. What is computed depends on the texts alone."""
    yes_no: str = _prompt("judge.yes_no", "query document")
    graded: str = _prompt("judge.graded", "query document")
    likelihood_context: str = _prompt("judge.likelihood.context", "document")
    likelihood_continuation: str = _prompt("judge.likelihood.continuation", "query")
    reranker_form: str = _prompt("judge.qwen3_reranker.form", "instruction query document")
    reranker_instruction: str = _prompt("judge.qwen3_reranker.instruction")
    better: str = _prompt("judge.better", "query first second")
    narrow: str = _prompt("reformulate.narrow", "query", "original documents")
    broaden: str = _prompt("reformulate.broaden", "query", "original documents")
    single: str = _prompt("generate.single", "document", "opening")
    multi: str = _prompt("generate.multi", "first second", "opening")
    adversarial: str = _prompt("generate.adversarial", "document", "opening")
    title: str = _prompt("fitting.title", "document")
    question: str = _prompt("fitting.question", "document")
    keywords: str = _prompt("fitting.keywords", "document")
    key: str = _prompt("fitting.key", "query document rung")
    key_rungs: str = _prompt("fitting.key_rungs")
    query: str = _prompt("fitting.query", "document rung")
    query_rungs: str = _prompt("fitting.query_rungs")
    unanswered: str = _prompt("fitting.unanswered")
    tags: str = _prompt("tag.write", "document", "count")
    tag_context: str = _prompt("tag.likelihood.context", "document")
    tag_continuation: str = _prompt("tag.likelihood.continuation", "tag")

    def digest(self, *names: str) -> str:
        """16 hex digits that change with the text of any of the named prompts, and with nothing else."""
        texts = "\0".join(f"{name}\0{getattr(self, name)}" for name in names)
        return hashlib.sha256(texts.encode("utf-8", "surrogatepass")).hexdigest()[:16]


_BY_KEY = {prompt.metadata.get("key", prompt.name): prompt for prompt in fields(Prompts)}
"""Where a prompt stands in the file -> the field that holds it."""


def beginning(text: str, words: int) -> str:
    """As much of a text as a prompt shows: so many words, and ``CHARACTERS_PER_WORD`` each, so that one unbroken string
    cannot fill the model.
    """
    return " ".join(text.split()[:words])[: words * CHARACTERS_PER_WORD]


def fill(template: str, **values: object) -> str:
    """A prompt from its template. What is filled in is data: only the template says how the answer begins, or writes a
    model's control tokens.
    """
    message, opening = split_template(template)
    if not opening and not CONTROL.search(template):
        return template.format(**values)
    parts: list[tuple[str, bool]] = []
    for literal, name, _, _ in string.Formatter().parse(message):
        parts += [(literal, False)] if literal else []
        parts += [(str(values[name]), True)] if name else []
    return Prompt(parts, opening.format(**values))


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
    missing = {prompt.name for prompt in fields(Prompts)} - set(values)
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
    except (ValueError, RecursionError) as error:  # numbers may be too long, and nesting too deep
        raise ConfigError(f"{name}: not TOML: {reason(error)}.") from error
    values = {}
    for key, text in _leaves(table):
        if key not in _BY_KEY:
            raise ConfigError(f"{name}: unknown key {key!r}: {nearest(key, _BY_KEY)}.")
        if not isinstance(text, str):
            raise ConfigError(f"{name}: {key} must be a text in quotes, not {text!r}.")
        prompt = _BY_KEY[key]
        if prompt.metadata:
            _check(f"{name}: {key}", text, prompt.metadata["required"], prompt.metadata["optional"])
        values[prompt.name] = text
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
