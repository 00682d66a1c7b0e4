"""One measured figure, and the table of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from searchrl.evaluation.text_table import text_table


@dataclass(frozen=True)
class Figure:
    """What was measured; ``naive`` is the same done one at a time (``naive.py``), where there is such a version."""

    section: str
    what: str
    ours: float
    unit: str
    """Rates end in ``/s``: more is better. Times are in s, ms, or ms a something: less is better."""
    naive: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times faster ours is than the naive version."""
        if self.naive is None or not self.naive or not self.ours:
            return None
        return self.ours / self.naive if self.unit.endswith("/s") else self.naive / self.ours

    def to_json(self) -> Mapping[str, object]:
        """Every field and the ratio."""
        return {
            "section": self.section,
            "what": self.what,
            "ours": self.ours,
            "unit": self.unit,
            "naive": self.naive,
            "ratio": self.ratio,
        }


def figures_table(figures: Sequence[Figure]) -> str:
    """A line a figure under a line a section."""
    rows: list[list[str]] = []
    section = None
    for figure in figures:
        if figure.section != section:
            section = figure.section
            rows.append([section, "", "", "", ""])
        naive, ratio = figure.naive, figure.ratio
        rows.append(
            [
                f"  {figure.what}",
                short(figure.ours),
                figure.unit,
                "" if naive is None else short(naive),
                "" if ratio is None else f"{short(ratio)}x",
            ]
        )
    return text_table(["what", "ours", "unit", "naive", "ratio"], rows)


def short(value: float) -> str:
    """Three digits that count, without an exponent; nothing below a thousandth."""
    return f"{value:,.0f}" if value >= 100 or value < 0.0005 else f"{value:.3g}" if value >= 0.01 else f"{value:.3f}"
