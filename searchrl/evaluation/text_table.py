"""Plain text tables: first column left-aligned, the others right-aligned, two spaces between."""

from __future__ import annotations

import math
from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align cells in columns under a header and a rule; no trailing spaces. Rows are as long as the header."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


def number(value: float, spec: str = ".4f") -> str:
    """Format a number for a cell: a dash where there is none (NaN)."""
    return "-" if math.isnan(value) else format(value, spec)


def p_value(p: float) -> str:
    """Format a p-value so that it never reads as zero."""
    return "<.0001" if p < 0.0001 else number(p)


def json_number(value: float) -> float | None:
    """Return a number as JSON has it: null for NaN, which strict JSON lacks."""
    return None if math.isnan(value) else float(value)
