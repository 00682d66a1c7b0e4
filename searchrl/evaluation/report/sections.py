"""The report's sections but for the explorer: prose, tables and charts from a comparison table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from searchrl.env.actions import Action
from searchrl.env.graph import SearchGraph
from searchrl.evaluation.comparison import SINGLE_PASS, ComparisonTable, MethodResult
from searchrl.evaluation.difficulty import BIN_RULES, BINS
from searchrl.evaluation.report import charts
from searchrl.evaluation.report.curves import Curves
from searchrl.evaluation.report.markup import Markup, element, join
from searchrl.evaluation.report.tree import action_tree, end_states
from searchrl.evaluation.significance import ORACLE, PairedTest
from searchrl.evaluation.text_table import number, p_value

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
}
NONE = float("nan")
LEVEL = 0.05


def section(title: str, *content: str | None) -> Markup:
    """A part of the page, with an id to link to."""
    name = "-".join(title.lower().split())
    return element("section", element("h2", title, id=name), *content, aria_labelledby=name)


def html_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], emphasised: str = "") -> Markup:
    """A table whose first column names the rows; it scrolls by itself where the window is narrow."""
    head = element("tr", *(element("th", cell, scope="col") for cell in header))
    body = [
        element(
            "tr",
            element("th", name, scope="row"),
            *(element("td", cell) for cell in cells),
            class_="agent" if name == emphasised else None,
        )
        for name, *cells in rows
    ]
    table = element(
        "table", element("caption", caption), element("thead", head), element("tbody", *body), class_="figures"
    )
    return wide(caption, table)


def wide(label: str, content: Markup) -> Markup:
    """A box that scrolls sideways, by keyboard too."""
    return element("div", content, class_="wide", tabindex=0, role="region", aria_label=label)


def headroom_captured(table: ComparisonTable, method: MethodResult) -> float:
    """(method - single pass) / (oracle - single pass) of the table's measure; NaN where there is no headroom."""
    means = {m.name: m.means.get(table.measure, NONE) for m in table.methods}
    room = means.get(ORACLE, NONE) - means.get(SINGLE_PASS, NONE)
    return (means[method.name] - means[SINGLE_PASS]) / room if room > 1e-9 else NONE


def findings(table: ComparisonTable, agent: MethodResult) -> Markup:
    """The result in a few sentences."""
    mean, share = agent.means[table.measure], headroom_captured(table, agent)
    tests = [test for test in table.tests if test.method == agent.name]
    items = [f"{agent.name} reaches a mean {table.measure} of {mean:.4f} on {len(agent.steps)} queries."]
    items += [_in_words(test) for test in tests]
    if math.isfinite(share):
        items.append(f"It captures {share:.0%} of the headroom between single pass and the oracle.")
    costs = agent.costs
    items.append(f"A query costs it {costs['searches']:.2f} searches and {costs['LM calls']:.2f} language model calls.")
    return section("Findings", element("ul", *(element("li", item) for item in items)))


def setting(facts: Mapping[str, object], notes: Sequence[str], methods: Sequence[MethodResult]) -> Markup:
    """What was evaluated and what the methods are."""
    pairs = [part for name, fact in facts.items() for part in (element("dt", name), element("dd", str(fact)))]
    explained = [
        part
        for method in methods
        if method.name in METHODS
        for part in (element("dt", method.name), element("dd", METHODS[method.name]))
    ]
    return section(
        "What was evaluated",
        element("dl", *pairs),
        element("ul", *(element("li", note) for note in notes)) if notes else None,
        element("h3", "Methods"),
        element("dl", *explained),
    )


def comparison(table: ComparisonTable, agent: MethodResult) -> Markup:
    """Quality with intervals and headroom, then costs and actions."""
    quality, costs = [], []
    for method in table.methods:
        low, high = table.intervals[method.name]
        share = headroom_captured(table, method)
        means = [number(method.means.get(measure, NONE)) for measure in table.measures]
        quality.append([method.name, *means, f"[{number(low)}, {number(high)}]", number(share, ".0%")])
        spent = [number(cost, ".2f") for cost in method.costs.values()]
        costs.append([method.name, *spent, *(number(float(part), ".0%") for part in method.action_fractions)])
    actions = [action.name.lower() for action in Action]
    points = _points(table, "searches")
    return section(
        "Comparison",
        element(
            "p",
            f"Means over the same queries. The interval is a 95% bootstrap interval of the mean {table.measure}. "
            "Headroom captured is (method - single pass) / (oracle - single pass). Higher is better in every column of "
            "the first table; the second says what a query costs and which share of a method's actions is which.",
        ),
        html_table("Quality", ["method", *table.measures, "95% interval", "headroom captured"], quality, agent.name),
        charts.intervals(f"Mean {table.measure} and 95% interval of each method", points, table.measure),
        html_table("Cost per query and actions", ["method", *table.methods[0].costs, *actions], costs, agent.name),
    )


def paired_tests(table: ComparisonTable, agent: MethodResult) -> Markup:
    """Each method against single pass and best fixed, query by query."""
    rows = []
    for test in table.tests:
        c = test.comparison
        counts = charts.shares(
            f"{c.wins} wins, {c.ties} ties, {c.losses} losses", [c.wins, c.ties, c.losses], ["win", "tie", "loss"]
        )
        interval = f"[{number(c.ci_low, '+.4f')}, {number(c.ci_high, '+.4f')}]"
        p_values = [p_value(p) for p in (c.p_ttest, c.p_randomisation, test.p_holm)]
        wtl = join(f"{c.wins}/{c.ties}/{c.losses} ", counts)
        rows.append([test.method, test.baseline, number(c.mean_difference, "+.4f"), interval, *p_values, wtl])
    header = ["method", "against", "difference", "95% interval", "p, t-test", "p, randomisation", "p, Holm", "W/T/L"]
    return section(
        "Paired tests",
        element(
            "p",
            f"Differences in {table.measure} on the same queries. p is two-sided; Holm's column corrects the "
            "randomisation test for the number of methods compared with the same baseline, and is the one to read. "
            "W/T/L counts the queries on which the method did better, alike and worse. The oracle is left out: it "
            "chose by these scores.",
        ),
        html_table("Paired tests", header, rows, agent.name) if rows else element("p", "There is nothing to compare."),
    )


def quality_and_cost(table: ComparisonTable) -> Markup:
    """One point a method: what it finds against what it spends."""
    drawings: list[str] = []
    for cost in ("searches", "LM calls"):
        points = _points(table, cost)
        if any(point.x > 0 for point in points):
            title = f"Mean {table.measure} against {cost} per query"
            drawings.append(element("figure", charts.scatter(title, points, f"{cost} per query", table.measure)))
        else:
            drawings.append(element("p", f"No method made any {cost} on these queries."))
    return section(
        "Quality against cost", element("p", "Up and to the left is better. Whiskers are 95% intervals."), *drawings
    )


def difficulty(table: ComparisonTable, agent: MethodResult) -> Markup | None:
    """Means in each bin that the single pass fixes."""
    found = table.difficulty
    if found is None:
        return None
    labels = [f"{name} ({rule})" for name, rule in zip(BINS, BIN_RULES, strict=True)]
    rows = [["queries", *map(str, found.counts)], *([n, *map(number, means)] for n, means in found.means.items())]
    return section(
        "Difficulty",
        element(
            "p",
            f"Mean {table.measure} among queries of alike difficulty, by what {SINGLE_PASS} scored on them: nothing "
            "relevant in its top 10 (hard), below .5, below 1, and perfect. Since it fixes the bins, the others can "
            "only win in the first and only lose in the last: the table describes, the tests are of all queries.",
        ),
        element("figure", charts.bars("Means by difficulty", labels, found.means, table.measure)),
        html_table("By difficulty", ["method", *labels], rows, agent.name),
    )


def behaviour(table: ComparisonTable, graph: SearchGraph, agent: MethodResult, single: MethodResult) -> Markup:
    """The tree of what the agent did."""
    ends = end_states(graph.tree, agent.actions or [])
    gains = agent.metrics[table.measure] - single.metrics[table.measure]
    stops = len(set(ends.tolist()))
    return section(
        "What the agent does",
        element(
            "p",
            f"Each branch is as wide as it is often taken, with its share of all {len(ends)} episodes, which end in "
            f"{stops} of {len(graph.tree.searched_nodes)} searched states. The gain at an end is the mean difference "
            f"in {table.measure} from {single.name} over the episodes that end there.",
        ),
        wide("Action tree", element("figure", action_tree(graph.tree, ends, gains))),
    )


def training(curves: Curves | None) -> Markup:
    """The curves of the run that trained the policy."""
    if curves is None or not curves.series:
        text = "The folder of the run that trained this policy was not found, so its curves cannot be shown."
        return section("Training", element("p", text))
    named = {"dev_ndcg_at_10": "dev nDCG@10", "dev_return": "dev return", "return": "train return"}
    quality = {label: curves.series[name] for name, label in named.items() if name in curves.series}
    actions = {n.partition(".")[2]: v for n, v in curves.series.items() if n.startswith("actions.")}
    drawings = [
        element("figure", charts.lines(title, series, "episode", label))
        for title, series, label in (
            ("Quality while training", quality, "value"),
            ("Entropy of the policy", {"entropy": curves.series.get("entropy", [])}, "nats"),
            ("Share of each action where there is a choice", actions, "share"),
        )
        if any(series.values())
    ]
    intro = f"From run {curves.run}, a point each time the dev queries were looked at."
    return section("Training", element("p", intro), *drawings)


def _in_words(test: PairedTest) -> str:
    c = test.comparison
    interval = f"{number(c.ci_low, '+.4f')} to {number(c.ci_high, '+.4f')}"
    verdict = "significant" if test.p_holm < LEVEL else "not significant"
    return (
        f"Against {test.baseline} that is {c.mean_difference:+.4f} (95% interval {interval}), {verdict} at the "
        f"{LEVEL:.0%} level (corrected p {p_value(test.p_holm)}): better on {c.wins} queries, alike on {c.ties}, worse "
        f"on {c.losses}."
    )


def _points(table: ComparisonTable, cost: str) -> list[charts.Point]:
    return [
        charts.Point(m.name, m.costs[cost], m.means[table.measure], *table.intervals[m.name]) for m in table.methods
    ]
