"""``report.html`` and ``sweep.html``: pages for someone who was not there, each one file that needs nothing else.

The words are in ``templates``, where everything that is not markup yet is escaped. A content security policy in the
page forbids whatever is not in the page: only the one style sheet and the one script whose hashes it names. Source:
W3C, "Content Security Policy Level 3".
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.env.graph import SearchGraph
from searchrl.env.tree import Action
from searchrl.evaluation import charts
from searchrl.evaluation.comparison import BIN_RULES, BINS, SINGLE_PASS, ComparisonTable, MethodResult
from searchrl.evaluation.report_data import Curves, end_states, explorer_data
from searchrl.evaluation.results import COSTS, QUALITY, SweepTable
from searchrl.evaluation.significance import ORACLE, PairedTest, paired_test_rows
from searchrl.evaluation.text_table import number, p_value
from searchrl.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT_FILE = "report.html"
SWEEP_PAGE = "sweep.html"
AGENT = "rl_agent"
LEVEL = 0.05
NONE = float("nan")
TEMPLATES = Path(__file__).parent / "templates"
METHODS = {
    "dense": "one search by embeddings alone",
    "hybrid": "one search by embeddings and BM25 together",
    "bm25": "one search by words alone (BM25)",
    "single_pass": "one search with the retriever that the agent starts from, then stop",
    "heuristic": "search, narrow, search, broaden, search, whatever the query",
    "random": "any allowed action, drawn at each step",
    "best_fixed": "the one sequence of actions that was best on the dev queries, for every query",
    "rl_agent": "the trained policy, its most probable action at each step",
    "oracle": "the best episode there is for each query, picked with hindsight: a bound, not a method",
    "reward_oracle": "the same by the reward model instead of people: the bound of what it pays",
}
CURVES = {
    "Quality while training": (
        "value",
        {"dev_ndcg_at_10": "dev nDCG@10", "dev_return": "dev return", "return": "train return"},
    ),
    "Entropy of the policy": ("nats", {"entropy": "entropy"}),
    "Share of each action": (
        "share",
        {f"actions.{action.name.lower()}": action.name.lower() for action in Action},
    ),
}
"""Title -> label of the y axis, and series as ``metrics.jsonl`` names them -> their labels."""


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
    know of the collection. curves: of the run that trained the agent. The table must hold the agent and the single
    pass. Raises OutputError if the file cannot be written.
    """
    methods = {method.name: method for method in table.methods}
    agent, single = methods[AGENT], methods[SINGLE_PASS]
    share = headroom_captured(table, agent)
    return _write(
        folder / REPORT_FILE,
        "report.html.j2",
        title=title,
        facts=facts,
        notes=notes,
        explained={name: METHODS[name] for name in methods if name in METHODS},
        table=table,
        measure=table.measure,
        agent=agent,
        single=single,
        level=LEVEL,
        captured=number(share, ".0%") if math.isfinite(share) else "",
        **_comparison(table),
        tests=_tests(table.tests),
        difficulty=_difficulty(table),
        behaviour=_behaviour(table, graph, agent, single),
        training=_training(curves),
        data=embedded_json(explorer_data(table, graph, queries, corpus, agent, single.name)),
        script=_asset("page.js"),
    )


def write_sweep_page(folder: Path, table: SweepTable, facts: Mapping[str, object]) -> Path:
    """Write ``sweep.html`` and return its path: a row and a dot for each value. facts: what was swept over, by name."""
    columns = table.rows[0].columns
    shown = [name for name in columns if name in COSTS or name.endswith(QUALITY)]
    rows = [[row.value, *(number(row.columns[c], ".2f" if c in COSTS else ".4f") for c in shown)] for row in table.rows]
    costs = [c for c in charts.PAID if len({row.columns[c] for row in table.rows}) > 1]
    points = [
        charts.Point(f"{table.setting} {row.value}", row.columns[QUALITY], NONE, NONE, row.columns)
        for row in table.rows
        if QUALITY in columns
    ]
    drawn = charts.quality_cost(points, costs, QUALITY) if points and costs else None
    return _write(
        folder / SWEEP_PAGE,
        "sweep.html.j2",
        title=f"{table.setting} on {facts['dataset']}",
        caption=f"{facts['queries']} {facts['split']} queries of {facts['dataset']}, policy_final.pt of each run",
        header=[table.setting, *shown],
        rows=rows,
        drawing=drawn and _drawing(f"{QUALITY} against cost per query", drawn),
        script="",
    )


def headroom_captured(table: ComparisonTable, method: MethodResult) -> float:
    """(method - single pass) / (oracle - single pass) of the table's measure; NaN where there is no headroom."""
    means = {m.name: m.means.get(table.measure, NONE) for m in table.methods}
    room = means.get(ORACLE, NONE) - means.get(SINGLE_PASS, NONE)
    return (means[method.name] - means[SINGLE_PASS]) / room if room > 1e-9 else NONE


def embedded_json(value: object) -> Markup:
    """Write a value as JSON that can stand in a script element.

    Plain ASCII without ``<``, ``>`` and ``&``: no text in it can end the element or begin a comment, and U+2028 and
    lone surrogates are escapes. Raises ValueError on NaN, which JSON lacks.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def render(template: str, **values: Any) -> str:
    """A page of a template; every value that is not Markup is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(number=number, p_value=p_value, hash=_hash)
    return environment.get_template(template).render(style=_asset("page.css"), **values)


def _write(path: Path, template: str, **values: Any) -> Path:
    # Lone surrogates, which a path or a query can carry, have no UTF-8 form.
    write_text(path, render(template, **values).encode("utf-8", "replace").decode("utf-8"))
    return path


def _comparison(table: ComparisonTable) -> dict[str, Any]:
    """Quality with intervals and headroom, costs and actions, as tables and drawings."""
    quality, spent = [], []
    for method in table.methods:
        low, high = table.intervals[method.name]
        share = headroom_captured(table, method)
        interval = f"[{number(low)}, {number(high)}]"
        quality.append([method.name, *table.quality_cells(method), interval, number(share, ".0%")])
        spent.append([method.name, *method.cost_cells()])
    points = charts.points(table)
    paid = charts.paid(points)
    against = charts.quality_cost(points, paid, table.measure) if paid else None
    return {
        "quality": {"header": ["method", *table.measures, "95% interval", "headroom captured"], "rows": quality},
        "costs": {
            "header": ["method", *table.methods[0].costs, *(action.name.lower() for action in Action)],
            "rows": spent,
        },
        "intervals": _drawing(
            f"Mean {table.measure} and 95% interval of each method", charts.intervals(points, table.measure)
        ),
        "quality_cost": against and _drawing(f"Mean {table.measure} against cost per query", against),
        "free": [cost for cost in charts.PAID if cost not in paid],
    }


def _tests(tests: Sequence[PairedTest]) -> dict[str, Any]:
    """Each method against single pass and best fixed, query by query."""
    counts = [(test.comparison.wins, test.comparison.ties, test.comparison.losses) for test in tests]
    rows = [
        [*row[:-1], Markup("{} {}").format(row[-1], _shares(*own))]
        for row, own in zip(paired_test_rows(tests), counts, strict=True)
    ]
    header = ["method", "against", "difference", "95% interval", "p, t-test", "p, randomisation", "p, Holm", "W/T/L"]
    return {"header": header, "rows": rows}


def _shares(wins: int, ties: int, losses: int) -> Markup:
    """One small bar divided in proportion."""
    at, bars = 0.0, []
    for count, name in ((wins, "win"), (ties, "tie"), (losses, "loss")):
        width = 60.0 * count / max(wins + ties + losses, 1)
        bars.append(
            Markup('<rect class="{}" x="{:.1f}" y="0" width="{:.1f}" height="12"></rect>').format(name, at, width)
        )
        at += width
    return Markup('<svg viewBox="0 0 60 12" width="60" height="12" role="img" aria-hidden="true">{}</svg>').format(
        Markup("").join(bars)
    )


def _difficulty(table: ComparisonTable) -> dict[str, Any] | None:
    """Means in each bin that the single pass fixes."""
    found = table.difficulty
    if found is None:
        return None
    return {
        "drawing": _drawing("Means by difficulty", charts.difficulty(found, table.measure)),
        "header": ["method", *(f"{name} ({rule})" for name, rule in zip(BINS, BIN_RULES, strict=True))],
        "rows": found.rows(),
    }


def _behaviour(table: ComparisonTable, graph: SearchGraph, agent: MethodResult, single: MethodResult) -> dict[str, Any]:
    """The tree of what the agent did."""
    ends = end_states(graph.tree, agent.actions)
    gains = agent.metrics[table.measure] - single.metrics[table.measure]
    return {
        "episodes": len(ends),
        "stops": len(set(ends.tolist())),
        "states": len(graph.tree.searched_nodes),
        "drawing": _drawing("The agent's episodes as a tree of actions", charts.action_tree(graph.tree, ends, gains)),
    }


def _training(curves: Curves | None) -> dict[str, Any] | None:
    """The curves of the run that trained the policy."""
    if curves is None or not curves.series:
        return None
    drawings = []
    for title, (label, names) in CURVES.items():
        series = {shown: curves.series[name] for name, shown in names.items() if curves.series.get(name)}
        if series:
            drawings.append(_drawing(title, charts.lines(series, "episode", label)))
    return {"run": curves.run, "drawings": drawings}


def _drawing(title: str, figure: Figure) -> dict[str, Any]:
    return {"title": title, "svg": charts.svg(figure, title)}


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> Markup:
    return Markup(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
