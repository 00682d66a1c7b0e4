"""``report.html``: one file that needs nothing else, not even a network.

A content security policy in the page forbids whatever is not in the page: only the one style sheet and the one script
whose hashes it names. Source: W3C, "Content Security Policy Level 3".
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.env.graph import SearchGraph
from searchrl.errors import DataError
from searchrl.evaluation.comparison import SINGLE_PASS, ComparisonTable, MethodResult
from searchrl.evaluation.report import sections
from searchrl.evaluation.report.curves import Curves
from searchrl.evaluation.report.episodes import explorer_data
from searchrl.evaluation.report.explorer import explorer
from searchrl.evaluation.report.markup import Markup, element, embedded_json
from searchrl.files import write_text

REPORT_FILE = "report.html"
AGENT = "rl_agent"


def write_report(
    folder: Path,
    table: ComparisonTable,
    graph: SearchGraph,
    queries: QuerySet,
    corpus: Corpus,
    *,
    title: str,
    facts: Mapping[str, object],
    notes: Sequence[str] = (),
    curves: Curves | None = None,
) -> Path:
    """Write ``report.html`` and return its path. The same inputs give the same bytes.

    graph, queries: the n that were evaluated, in order. facts: what was evaluated, by name. notes: what a reader must
    know of the collection. curves: of the run that trained the agent. Raises DataError if the table lacks the agent or
    the single pass, or has another number of queries; OutputError if the file cannot be written.
    """
    agent, single = _method(table, AGENT), _method(table, SINGLE_PASS)
    if agent.actions is None:
        raise DataError(f"the report shows what {AGENT} did, but its actions are not in the results")
    if not len(queries) == len(graph) == len(agent.steps):
        raise DataError(f"the results are of {len(agent.steps)} queries, {len(graph)} and {len(queries)} were given")
    data = explorer_data(table, graph, queries, corpus, agent, single.name)
    content = [
        sections.findings(table, agent),
        sections.setting(facts, notes, table.methods),
        sections.comparison(table, agent),
        sections.paired_tests(table, agent),
        sections.quality_and_cost(table),
        sections.difficulty(table, agent),
        sections.behaviour(table, graph, agent, single),
        sections.training(curves),
        explorer(table.measure, agent.name, single.name),
        element("script", embedded_json(data), id="data", type="application/json"),
    ]
    page = html_page(title, *content)
    # Lone surrogates, which a path or a query can carry, have no UTF-8 form.
    write_text(folder / REPORT_FILE, page.encode("utf-8", "replace").decode("utf-8"))
    return folder / REPORT_FILE


def html_page(title: str, *content: str | None) -> str:
    """A whole document that needs nothing else."""
    style, script = (files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(style)),
    )
    skip = element("a", "Skip to the queries", href="#queries", class_="skip")
    main = element("main", element("h1", title), *content)
    body = element("body", skip, main, element("script", Markup(script)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _method(table: ComparisonTable, name: str) -> MethodResult:
    for method in table.methods:
        if method.name == name:
            return method
    raise DataError(f"a report needs {name}; the results are of {', '.join(m.name for m in table.methods)}")
