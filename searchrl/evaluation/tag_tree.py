"""A tag tree for people: as text, as one HTML page that needs nothing else; and what routing by it costs and loses."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.evaluation.measures import evaluate_ranking
from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, IntArray, Ranking
from searchrl.retrieval.tagtree.retriever import MakeGuide, TagTreeRetriever
from searchrl.retrieval.tagtree.tree import NOTHING, TagTree
from searchrl.reward.gain import own_document

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
class Measured:
    """Means over the queries. scored, compared: documents scored, and tags and clusters compared with a query, both as
    shares of the collection. values: measure -> its value. overlap: share of exact search's documents that were found.
    beam_width is None for exact search itself.
    """

    beam_width: int | None
    scored: float
    compared: float
    values: dict[str, float]
    overlap: float


def measure(
    retriever: TagTreeRetriever,
    queries: QuerySet,
    vectors: FloatArray,
    corpus: Corpus,
    k: int,
    *,
    beams: Sequence[int],
    shares: Sequence[float],
    guide: MakeGuide | None = None,
) -> list[Measured]:
    """Exact search, then every share of the documents with every beam width. vectors: the queries', (n, dim).

    Queries without judgments are left out; one at least must have them.
    """
    rows = [i for i, name in enumerate(queries.ids) if name in queries.qrels]
    queries = QuerySet([queries.ids[i] for i in rows], [queries.texts[i] for i in rows], queries.qrels)
    vectors = vectors[rows]
    of_judged = None if guide is None else lambda places: guide([rows[place] for place in places])
    exclude = own_document(queries, corpus)
    exact = DenseIndex(retriever.vectors).search(vectors, k, exclude)
    wanted = (f"Recall@{k}", "nDCG@10")

    def means(ranking: Ranking) -> dict[str, float]:
        values = evaluate_ranking(ranking, queries, corpus.ids, wanted)
        return {name: float(by_query.mean()) for name, by_query in values.items()}

    measured = [Measured(None, 1.0, 0.0, means(exact), 1.0)]
    for share in shares:
        for beam in beams:
            candidates = max(k, round(share * len(corpus)))
            found = retriever.search(vectors, k, exclude, beam_width=beam, candidates=candidates, guide=of_judged)
            scored, compared = (float(n.mean()) / len(corpus) for n in (found.scored, found.walk.compared))
            overlap = shared(found.ranking.documents, exact.documents)
            measured.append(Measured(beam, scored, compared, means(found.ranking), overlap))
    return measured


def shared(found: IntArray, exact: IntArray) -> float:
    """Share of the documents in rows of ``exact`` that stand in the same row of ``found``."""
    there = [np.isin(e[e != NO_DOCUMENT], f).mean() for f, e in zip(found, exact, strict=True) if (e >= 0).any()]
    return float(np.mean(there)) if there else 1.0


def measured_table(rows: Sequence[Measured]) -> str:
    """The rows as text."""
    from searchrl.evaluation.text_table import number, text_table

    names = list(rows[0].values)
    header = ["search", "documents scored", "tags and clusters compared", *names, "overlap with exact"]
    cells = [
        [
            "exact" if row.beam_width is None else f"beam {row.beam_width}",
            f"{row.scored:.1%}",
            f"{row.compared:.1%}",
            *(number(row.values[name]) for name in names),
            f"{row.overlap:.1%}",
        ]
        for row in rows
    ]
    return text_table(header, cells)


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
