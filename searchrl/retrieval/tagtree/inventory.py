"""The inventory of a collection's tags as one JSON file: who made them, the tags of each document, and the reverse.

``{"searchrl_tags": 1, "header": {...}, "documents": {id: [tag, ...]}, "tags": {tag: [id, ...]}}``. A document's tags
stand best first; it may have none. A tag's documents stand in the order of the collection.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from searchrl.data.dataset import Corpus
from searchrl.data.records import checked_id, checked_text, read_json
from searchrl.errors import DataError
from searchrl.files import write_text

FORMAT = "searchrl_tags"
VERSION = 1


@dataclass(frozen=True)
class InventoryHeader:
    """What an inventory was made with, so that the same command can make it again."""

    dataset: str
    """As the command names it."""
    corpus_fingerprint: str
    tagger: str
    model: str | None
    """Name and fingerprint of the language model; None where there was none."""
    prompt_version: str | None
    seed: int
    settings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Inventory:
    """The tags of every document of a collection, in its order, best first."""

    header: InventoryHeader
    documents: Mapping[str, Sequence[str]]

    def tags(self) -> dict[str, list[str]]:
        """Tag -> ids of its documents; tags by name."""
        found: dict[str, list[str]] = {}
        for document, tags in self.documents.items():
            for tag in tags:
                found.setdefault(tag, []).append(document)
        return dict(sorted(found.items()))


def write_inventory(path: Path, inventory: Inventory) -> None:
    """Write an inventory whole or not at all, a document or tag a line."""
    parts = [f'"{FORMAT}": {VERSION}', f'"header": {_json(asdict(inventory.header))}']
    for name, entries in (("documents", inventory.documents), ("tags", inventory.tags())):
        lines = ",\n".join(f" {_json(key)}: {_json(list(values))}" for key, values in entries.items())
        parts.append(f'"{name}": {{\n{lines}\n}}')
    write_text(path, "{" + ",\n".join(parts) + "}\n")


def read_inventory_for(path: Path, corpus: Corpus) -> Inventory:
    """Read the inventory of a corpus. Raises DataError as ``read_inventory`` does, and where it is another's."""
    inventory = read_inventory(path)
    found = inventory.header.corpus_fingerprint
    if found != corpus.fingerprint or list(inventory.documents) != list(corpus.ids):
        raise DataError(
            f"{path}: made for another collection ({found}; this one is {corpus.fingerprint}); name its own "
            "dataset, or generate tags again"
        )
    return inventory


def read_inventory(path: Path) -> Inventory:
    """Read an inventory. Raises DataError naming the file where it is missing, damaged, empty or contradicts itself."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get(FORMAT) != VERSION:
        raise DataError(f"{path}: an inventory of tags, version {VERSION}, is expected, as generate_tags writes it")
    documents: dict[str, list[str]] = {}
    for document, tags in _object(content, "documents", str(path)).items():
        place = f"{path}, document {checked_id(document, 'a document id', str(path))!r}"
        if not isinstance(tags, list):
            raise DataError(f"{place}: a list of tags is expected")
        documents[document] = [checked_text(tag, "a tag", place) for tag in tags]
        if len(set(tags)) < len(tags) or not all(tag.strip() for tag in tags):
            raise DataError(f"{place}: a tag is empty or given twice")
    inventory = Inventory(_header(_object(content, "header", str(path)), str(path)), documents)
    if not any(documents.values()):
        raise DataError(f"{path}: holds no tags")
    if _object(content, "tags", str(path)) != inventory.tags():
        raise DataError(f"{path}: 'documents' and 'tags' contradict each other; generate tags again")
    return inventory


def _header(fields: dict[str, Any], place: str) -> InventoryHeader:
    texts = {name: checked_text(fields.get(name), repr(name), place) for name in ("dataset", "corpus_fingerprint")}
    seed, settings = fields.get("seed"), fields.get("settings")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise DataError(f"{place}: 'seed' must be an integer, not {str(seed)[:40]!r}")
    if not isinstance(settings, dict) or not all(isinstance(value, (int, float)) for value in settings.values()):
        raise DataError(f"{place}: 'settings' must be an object of numbers")
    model, version = (
        None if fields.get(name) is None else checked_text(fields[name], repr(name), place)
        for name in ("model", "prompt_version")
    )
    tagger = checked_text(fields.get("tagger"), "'tagger'", place)
    return InventoryHeader(**texts, tagger=tagger, model=model, prompt_version=version, seed=seed, settings=settings)


def _object(content: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    value = content.get(name)
    if not isinstance(value, dict):
        raise DataError(f"{place}: {name!r} must be an object")
    return value


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
