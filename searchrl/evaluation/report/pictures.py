"""PNG plots beside the report, for papers and slides: quality against cost, and difficulty."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.evaluation.comparison import ComparisonTable
from searchrl.evaluation.difficulty import BIN_RULES, BINS
from searchrl.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUALITY_COST_FILE = "quality_cost.png"
DIFFICULTY_FILE = "difficulty.png"


def write_pictures(folder: Path, table: ComparisonTable) -> list[Path]:
    """Write both plots and return their paths; none without matplotlib, which is the extra ``plot``.

    Each file appears whole or not at all. Raises OutputError when the place cannot be written.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return []
    written = [_save(_quality_cost(table), folder / QUALITY_COST_FILE)]
    if table.difficulty is not None:
        written.append(_save(_difficulty(table), folder / DIFFICULTY_FILE))
    return written


def _quality_cost(table: ComparisonTable) -> Figure:
    from matplotlib.figure import Figure

    costs = [cost for cost in ("searches", "LM calls") if any(method.costs[cost] > 0 for method in table.methods)]
    figure = Figure(figsize=(2.0 + 4.5 * len(costs), 4.5), layout="constrained")
    axes = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for axis, cost in zip(axes, costs, strict=True):
        for i, method in enumerate(table.methods):
            low, high = table.intervals[method.name]
            x, y = method.costs[cost], method.means[table.measure]
            axis.vlines(x, low, high, color=f"C{i}", alpha=0.4)
            axis.plot([x], [y], "o", color=f"C{i}", label=method.name)
        axis.set(xlabel=f"{cost} per query")
        axis.set_xlim(left=0)
        axis.grid(visible=True, alpha=0.3)
    axes[0].set_ylabel(table.measure)
    axes[-1].legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _difficulty(table: ComparisonTable) -> Figure:
    from matplotlib.figure import Figure

    assert table.difficulty is not None
    means = table.difficulty.means
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(means)
    for i, (name, values) in enumerate(means.items()):
        axis.bar([g + (i - len(means) / 2 + 0.5) * width for g in range(len(BINS))], values, width, label=name)
    counts = table.difficulty.counts
    labels = [f"{name} {rule}\n{n} queries" for name, rule, n in zip(BINS, BIN_RULES, counts, strict=True)]
    axis.set_xticks(range(len(BINS)), labels)
    axis.set(ylabel=table.measure)
    axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _save(figure: Figure, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_bytes(path, picture.getvalue())
    return path
