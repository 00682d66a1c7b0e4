"""A tag tree for people: as text, and as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence

from searchrl.evaluation.report.markup import Markup, element, join
from searchrl.tagtree.tree import NOTHING, TagTree

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
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    known = [join(element("dt", name), element("dd", str(value))) for name, value in facts.items()]
    body = element("body", element("h1", title), element("dl", *known), _nodes(tree, texts))
    page = f"<!doctype html>\n{element('html', head, body, lang='en')}\n"
    return page.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair has no UTF-8 form


def _nodes(tree: TagTree, texts: Sequence[str]) -> Markup:
    """From the last node to the first, which is the root: children are drawn before what they stand in."""
    tags, documents = tree.sizes
    drawn: dict[int, Markup] = {}
    for node in range(len(tree) - 1, -1, -1):
        below = [drawn.pop(child) for child in tree.children(node)]
        if tree.tag[node] != NOTHING:
            found = tree.documents[tree.tag[node]].indices[:EXAMPLES]
            below = [element("div", element("small", " ".join(texts[i].split())[:CHARACTERS])) for i in found]
            head = join(tree.tags[tree.tag[node]], " ", element("small", f"{documents[node]} documents"))
        else:
            size = f"{tags[node]} tags, {documents[node]} documents"
            head = join(tree.name(node), " ", element("small", size))
        drawn[node] = element("details", element("summary", head), *below, open=node == 0)
    return drawn[0]


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
