"""``sweep.html``: a sweep's quality against what it costs, one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from searchrl.evaluation.report.charts import Point, scatter
from searchrl.evaluation.report.markup import element
from searchrl.evaluation.report.page import html_page
from searchrl.evaluation.report.sections import html_table, section
from searchrl.evaluation.sweep_table import COSTS, QUALITY, SweepTable
from searchrl.evaluation.text_table import number
from searchrl.files import write_text

SWEEP_PAGE = "sweep.html"


def write_sweep_page(folder: Path, table: SweepTable, facts: Mapping[str, object]) -> Path:
    """Write ``sweep.html`` and return its path: a row and a dot for each value. facts: what was swept over, by name."""
    setting = table.setting
    shown = [name for name in table.rows[0].columns if name in COSTS or name.endswith(QUALITY)]
    rows = [[row.value, *(number(row.columns[c], ".2f" if c in COSTS else ".4f") for c in shown)] for row in table.rows]
    caption = f"{facts['queries']} {facts['split']} queries of {facts['dataset']}, policy_final.pt of each run"
    charts = [_chart(table, cost) for cost in ("searches", "LM calls") if _varies(table, cost)]
    title = f"{setting} on {facts['dataset']}"
    page = html_page(
        title,
        section("What each value does", html_table(caption, [setting, *shown], rows)),
        section("Quality against cost", *charts) if charts else element("p", "All values cost the same."),
    )
    write_text(folder / SWEEP_PAGE, page)
    return folder / SWEEP_PAGE


def _varies(table: SweepTable, cost: str) -> bool:
    return QUALITY in table.rows[0].columns and len({row.columns[cost] for row in table.rows}) > 1


def _chart(table: SweepTable, cost: str) -> str:
    nan = float("nan")
    points = [
        Point(f"{table.setting} {row.value}", row.columns[cost], row.columns[QUALITY], nan, nan) for row in table.rows
    ]
    return element("figure", scatter(f"{QUALITY} against {cost} a query", points, f"{cost} a query", QUALITY))
