"""The per-query explorer's controls and its empty list, which ``page.js`` fills from the embedded data."""

from __future__ import annotations

from searchrl.evaluation.report.markup import Markup, element
from searchrl.evaluation.report.sections import section

OUTCOMES = {"all": "all queries", "loss": "losses", "tie": "ties", "win": "wins"}
ORDERS = {
    "loss": "worst losses first",
    "gain": "best gains first",
    "left": "most left to gain (oracle)",
    "given": "as in the collection",
}


def explorer(measure: str, agent: str, single: str) -> Markup:
    """Search box, choices and list; hidden until the script runs, for without it they do nothing."""
    controls = element(
        "form",
        element("label", "Search ", element("input", type="search", id="search", autocomplete="off")),
        element("label", element("input", type="checkbox", id="in-documents"), " in the documents too"),
        element("label", "Show ", _select("outcome", OUTCOMES)),
        element("label", "Episode ", element("select", element("option", "any", value=""), id="episode")),
        element("label", "Order ", _select("order", ORDERS)),
        id="controls",
        role="search",
        hidden=True,
    )
    return section(
        "Queries",
        element(
            "p",
            f"Every query with its {measure} by {single} and by {agent}. Open one for the episode step by step: "
            "queries as rewritten, the top 10 of each search with the beginning of each document, and the final "
            "ranking. Documents that people judged relevant are marked with their grade; others are unjudged or not "
            "relevant.",
        ),
        element("noscript", element("p", "The list of queries needs JavaScript; all else on this page does not.")),
        controls,
        element("p", id="count", role="status"),
        element("div", id="list"),
        element("button", "Show more", id="more", type="button", hidden=True),
    )


def _select(name: str, options: dict[str, str]) -> Markup:
    return element("select", *(element("option", label, value=value) for value, label in options.items()), id=name)
