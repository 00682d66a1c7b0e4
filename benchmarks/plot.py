"""The growth of costs and the breakdown of the time, as a picture."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.errors import ConfigError
from searchrl.files import write_bytes

if TYPE_CHECKING:
    from benchmarks.growth import Growth


def check_plot(path: Path) -> None:
    """Raise ConfigError where no picture can be drawn under this name: before anything is measured."""
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--plot {path}: pictures are PNG; name it {path.with_suffix('.png').name}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib, which is an extra: uv pip install 'searchrl[plot]'")


def write_plot(path: Path, growths: Sequence[Growth], estimates: Mapping[str, Mapping[str, float]], title: str) -> None:
    """Write a PNG, whole or not at all. ``estimates``: name (cold, warm) -> part -> seconds, ``total`` left out.

    Raises OutputError when the place cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5), layout="constrained")
    FigureCanvasAgg(figure)
    kinds = list(dict.fromkeys(growth.of for growth in growths))
    axes = figure.subplots(1, len(kinds) + 1, squeeze=False)[0]
    for kind, axis in zip(kinds, axes, strict=False):
        for growth in growths:
            if growth.of == kind:
                label = f"{growth.what} ({growth.exponent:.2f})"
                axis.plot(list(growth.costs), list(growth.costs.values()), marker="o", label=label)
        axis.set(xscale="log", yscale="log", xlabel=kind, ylabel="seconds", title=f"growth with {kind} (exponent)")
        axis.legend(fontsize="x-small")
        axis.grid(visible=True, alpha=0.3)
    axis = axes[-1]
    left = dict.fromkeys(estimates, 0.0)
    for part in next(iter(estimates.values()), {}):
        if part != "total":
            widths = [estimates[name][part] for name in estimates]
            axis.barh(list(estimates), widths, left=list(left.values()), label=part)
            left = {name: left[name] + width for name, width in zip(estimates, widths, strict=True)}
    axis.set(xlabel="seconds", title="10,000 episodes")
    axis.legend(fontsize="x-small")
    figure.suptitle(title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_bytes(path, picture.getvalue(), "give another --plot")
