from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.errors import DataError
from searchrl.retrieval.tagtree.build import (
    Inventory,
    InventoryHeader,
    read_inventory,
    read_inventory_for,
    write_inventory,
)
from tests.tiny import corpus_of

CORPUS = corpus_of("delta wing", "wing", "heat")
HEADER = InventoryHeader("d", CORPUS.fingerprint, "keyphrases", None, None, 42, {"max_share": 0.1})
INVENTORY = Inventory(HEADER, {"d0": ["delta", "wing"], "d1": ["wing"], "d2": []})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tags.json"
    write_inventory(path, INVENTORY)
    assert read_inventory_for(path, CORPUS) == INVENTORY
    content = json.loads(path.read_text())
    assert content["tags"] == {"delta": ["d0"], "wing": ["d0", "d1"]}
    assert content["header"]["corpus_fingerprint"] == CORPUS.fingerprint
    with pytest.raises(DataError, match=r"tags\.json: made for another collection .* dataset"):
        read_inventory_for(path, corpus_of("delta wing", "wing"))


tags = st.lists(st.text(min_size=1, max_size=6).filter(str.strip), max_size=4, unique=True)


@given(st.lists(tags, min_size=1, max_size=5).filter(any))
def test_any_tags_survive(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    rows = [[tag for tag in row if tag.encode("utf-8", "ignore").decode() == tag] for row in rows]
    if not any(rows):
        return
    path = tmp_path_factory.mktemp("t") / "tags.json"
    inventory = Inventory(HEADER, {f"d{i}": row for i, row in enumerate(rows)})
    write_inventory(path, inventory)
    assert read_inventory(path) == inventory


def changed(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        *above, last = path
        for name in above:
            content = content[name]
        content[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("searchrl_tags", value=2), "an inventory of tags, version 1, is expected"),
        (changed("tags", "delta", value=["d1"]), "'documents' and 'tags' contradict each other"),
        (changed("tags", value=[]), "'tags' must be an object"),
        (changed("documents", "d0", value="wing"), "document 'd0': a list of tags is expected"),
        (changed("documents", "d0", value=["a", "a"]), "document 'd0': a tag is empty or given twice"),
        (changed("documents", "d0", value=[3]), "a tag must be a string"),
        (changed("documents", "d 9", value=[]), "without whitespace"),
        (changed("header", "seed", value=None), "'seed' must be an integer"),
        (changed("header", "tagger", value=None), "'tagger' must be a string"),
        (changed("header", "settings", value=["x"]), "'settings' must be an object of numbers"),
        (changed("documents", value={}), "holds no tags"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    path = tmp_path / "tags.json"
    write_inventory(path, INVENTORY)
    content = json.loads(path.read_text())
    change(content)
    del content["sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as raised:
        read_inventory(path)
    assert str(path) in str(raised.value)
    path.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        read_inventory(path)
    with pytest.raises(DataError, match="no such file"):
        read_inventory(tmp_path / "none.json")
