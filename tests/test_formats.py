"""The numeric format that is fast here: measured once, remembered, and chosen with a margin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from searchrl import formats
from searchrl.formats import fastest, measure, speeds


@pytest.mark.parametrize(
    ("bfloat16", "int8", "chosen"),
    [(1.0, 1.0, "float32"), (2.0, 2.1, "bfloat16"), (2.0, 3.0, "int8"), (0.1, 1.4, "int8"), (0.0, 1.1, "float32")],
)
def test_a_less_exact_format_has_to_be_clearly_faster(bfloat16: float, int8: float, chosen: str) -> None:
    speed = {"float32": 1.0, "bfloat16": bfloat16, "int8": int8}
    assert fastest(("float32", "bfloat16", "int8"), speed) == chosen


def test_measuring_leaves_no_trace_and_knows_what_is_not_there() -> None:
    torch.manual_seed(3)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    speed = measure(("float32", "float8_e4m3fn"))
    assert speed["float32"] > 0
    assert speed["float8_e4m3fn"] == 0
    assert (torch.get_num_threads(), torch.equal(torch.get_rng_state(), state)) == (threads, True)


def test_it_is_measured_once_for_a_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEARCHRL_CACHE", str(tmp_path))
    asked = []

    def pretend(names: tuple[str, ...]) -> dict[str, float]:
        asked.append(names)
        return dict.fromkeys(names, 100.0)

    monkeypatch.setattr(formats, "measure", pretend)

    def another_process(processor: str) -> dict[str, float]:
        formats._speeds.cache_clear()
        return dict(speeds(("float32", "int8"), processor))

    assert another_process("one") == another_process("one") == {"float32": 100.0, "int8": 100.0}
    assert len(asked) == 1
    another_process("other")
    assert len(asked) == 2
    file = tmp_path / formats.FILE
    assert len(json.loads(file.read_text())) == 2
    file.write_text("[no")
    assert another_process("one")["int8"] == 100.0
    assert len(asked) == 3
    formats._speeds.cache_clear()
