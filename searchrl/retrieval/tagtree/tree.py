"""The tag tree: clusters of tags over clusters of tags, and each tag's documents.

Nodes are numbered level by level from the root, 0, so that a node's children follow each other. A node without children
is one tag. A tree is stored as a folder, and shown to people as text and as one HTML page that needs nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchrl.errors import CacheError, DataError
from searchrl.files import load_arrays, save_arrays
from searchrl.retrieval.ranking import FloatArray, IntArray
from searchrl.threads import lazy

VERSION = 1
NOTHING = -1
"""Where there is no node, tag or document."""
EXAMPLES = 3
"""Documents of a tag whose beginnings are shown."""
CHARACTERS = 90
"""So much of a beginning."""

STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.1rem 1rem; }
dt, small { opacity: 0.7; }
dd { margin: 0; overflow-wrap: anywhere; }
details { margin-left: 1.2rem; }
summary { cursor: pointer; }
:focus-visible { outline: 3px solid; outline-offset: 1px; }
"""


@dataclass(frozen=True)
class TagTree:
    """m tags as the ends of a tree of nodes, over some documents.

    tags: m names. vectors: (nodes, dim) unit rows: a tag's pooled embedding, else the direction of a cluster's mean.
    parent, first, count: (nodes,) int32: a node's parent (``NOTHING`` for the root), its first child, how many it has.
    tag: (nodes,) int32: which tag a node is, ``NOTHING`` for a cluster. representatives: (nodes, r) int32: the tags
    that stand for a node, best first, then ``NOTHING``. documents: (m, documents) scipy CSR of ones.
    """

    tags: Sequence[str]
    vectors: FloatArray
    parent: IntArray
    first: IntArray
    count: IntArray
    tag: IntArray
    representatives: IntArray
    documents: Any

    def __len__(self) -> int:
        return len(self.parent)

    @lazy
    def leaves(self) -> int:
        """Clusters that have tags among their children: a beam as wide as that goes everywhere."""
        return len(np.unique(self.parent[self.tag != NOTHING]))

    @lazy
    def levels(self) -> NDArray[np.int64]:
        """Steps from the root to each node, (nodes,)."""
        levels = np.zeros(len(self), dtype=np.int64)
        for node in range(1, len(self)):  # parents come first
            levels[node] = levels[self.parent[node]] + 1
        return levels

    @lazy
    def tags_of_document(self) -> NDArray[np.int64]:
        """How many tags each document has, (documents,)."""
        return np.asarray(self.documents.sum(axis=0)).ravel().astype(np.int64)

    @lazy
    def node_of_tag(self) -> NDArray[np.int64]:
        """The node that each tag is, (m,)."""
        nodes = np.flatnonzero(self.tag != NOTHING)
        return nodes[np.argsort(self.tag[nodes])]

    def children(self, node: int) -> range:
        """The nodes right below."""
        return range(int(self.first[node]), int(self.first[node] + self.count[node]))

    def path(self, node: int) -> list[int]:
        """The nodes from the root's child down to this one."""
        nodes: list[int] = []
        while node > 0:
            nodes.append(node)
            node = int(self.parent[node])
        return nodes[::-1]

    def name(self, node: int) -> str:
        """The tags that stand for a node."""
        return ", ".join(self.tags[tag] for tag in self.representatives[node] if tag != NOTHING)

    @lazy
    def sizes(self) -> tuple[IntArray, IntArray]:
        """Tags and documents below each node, both (nodes,)."""
        from scipy import sparse

        nodes: IntArray = np.flatnonzero(self.tag != NOTHING).astype(np.int32)
        above, tags = [], self.tag[nodes]
        while len(nodes):
            above.append((nodes, tags))
            up = self.parent[nodes]
            nodes, tags = up[up != NOTHING], tags[up != NOTHING]
        rows, columns = (np.concatenate(parts) for parts in zip(*above, strict=True))
        shape = (len(self), len(self.tags))
        below = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)
        documents = (below @ self.documents).tocsr()
        return np.diff(below.indptr).astype(np.int32), np.diff(documents.indptr).astype(np.int32)


def save_tree(folder: Path, tree: TagTree, facts: dict[str, Any]) -> None:
    """Write a tree as a folder, whole or not at all; ``facts`` is whatever JSON can hold."""
    arrays = {name: getattr(tree, name) for name in ("vectors", "parent", "first", "count", "tag", "representatives")}
    arrays |= {"indptr": tree.documents.indptr, "indices": tree.documents.indices}
    meta = {"searchrl_tag_tree": VERSION, "tags": list(tree.tags), "documents": tree.documents.shape[1], "facts": facts}
    save_arrays(folder, arrays, meta)


def load_tree(folder: Path) -> tuple[TagTree, dict[str, Any]]:
    """Read a tree and its facts. Raises DataError where the folder holds none, or a damaged one."""
    from scipy import sparse

    if not (folder / "meta.json").is_file():
        raise DataError(f"{folder}: no tag tree here; searchrl tags embed makes one")
    try:
        arrays, meta = load_arrays(folder)
        if meta.get("searchrl_tag_tree") != VERSION:
            raise DataError(f"{folder}: not a tag tree of version {VERSION}; make it again with searchrl tags embed")
        indices = arrays.pop("indices")
        postings = (np.ones(len(indices), dtype=np.float32), indices, arrays.pop("indptr"))
        documents = sparse.csr_matrix(postings, shape=(len(meta["tags"]), meta["documents"]))
        return TagTree(tags=meta["tags"], documents=documents, **arrays), dict(meta["facts"])
    except (CacheError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder}: the tag tree is damaged ({error}): searchrl tags embed makes it again") from error


def tree_text(tree: TagTree) -> str:
    """Every node on a line, its children below it; a tag with the number of its documents."""
    tags, documents = tree.sizes
    lines = []
    todo = [0]
    while todo:
        node = todo.pop()
        indent = "  " * int(tree.levels[node])
        if tree.tag[node] != NOTHING:
            lines.append(f"{indent}- {tree.tags[tree.tag[node]]} ({documents[node]})")
        else:
            lines.append(f"{indent}{tree.name(node)} [{tags[node]} tags, {documents[node]} documents]")
        todo += reversed(tree.children(node))
    return "\n".join(lines) + "\n"


def tree_page(tree: TagTree, title: str, facts: Mapping[str, object], texts: Sequence[str]) -> str:
    """A whole page whose nodes fold out, down to the tags and the beginnings of some documents. texts: of all."""
    policy = f"default-src 'none'; style-src {_hash(STYLE)}; base-uri 'none'"
    known = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1><dl>{known}</dl>{_nodes(tree, texts)}</body></html>\n"
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair has no UTF-8 form


def _nodes(tree: TagTree, texts: Sequence[str]) -> str:
    """From the last node to the first, which is the root: children are drawn before what they stand in."""
    tags, documents = tree.sizes
    drawn: dict[int, str] = {}
    for node in range(len(tree) - 1, -1, -1):
        below = "".join([drawn.pop(child) for child in tree.children(node)])
        name, size = tree.name(node), f"{tags[node]} tags, {documents[node]} documents"
        if tree.tag[node] != NOTHING:
            found = tree.documents[tree.tag[node]].indices[:EXAMPLES]
            beginnings = [escape(" ".join(texts[i].split())[:CHARACTERS]) for i in found]
            below = "".join(f"<div><small>{beginning}</small></div>" for beginning in beginnings)
            name, size = tree.tags[tree.tag[node]], f"{documents[node]} documents"
        summary = f"<summary>{escape(name)} <small>{size}</small></summary>"
        drawn[node] = f"<details{'' if node else ' open'}>{summary}{below}</details>"
    return drawn[0]


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
