from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.growth import Growth
from benchmarks.plot import check_plot, write_plot
from searchrl.errors import ConfigError, OutputError

GROWTHS = [Growth("play", "queries", {100: 1.0, 1000: 9.0}), Growth("search", "documents", {1000: 0.1, 10_000: 1.0})]
ESTIMATES = {"cold": {"judging": 90.0, "training": 5.0, "total": 95.0}, "warm": {"judging": 0.0, "training": 5.0}}


def test_a_picture_is_written_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "growth.png"
    write_plot(path, GROWTHS, ESTIMATES, "pydocs")
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20, "something is drawn"
    assert [file.name for file in path.parent.iterdir()] == ["growth.png"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="give another --plot"):
        write_plot(tmp_path / "file" / "x.png", GROWTHS, ESTIMATES, "pydocs")


def test_what_cannot_be_drawn_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--plot x\.pdf: pictures are PNG; name it x\.png"):
        check_plot(Path("x.pdf"))
    check_plot(Path("x.png"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs matplotlib, which is an extra: uv pip install 'searchrl\[plot\]'"):
        check_plot(Path("x.png"))
