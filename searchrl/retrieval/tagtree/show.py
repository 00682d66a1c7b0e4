"""A tag tree for people: as text, and as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape

from searchrl.retrieval.tagtree.tree import NOTHING, TagTree

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
