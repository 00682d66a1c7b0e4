from __future__ import annotations

import csv
import json

import pytest

from searchrl.evaluation.sweep_table import SweepRow, SweepTable


def table(setting: str, *gains: float) -> SweepTable:
    costs = {"searches": 2.0, "LM calls": 12.5, "steps": 3.5}
    rows = [
        SweepRow(str(i), f"{setting}={i}", {"nDCG@10": gain, "Recall@100": 0.9, "reward nDCG@10": 0.5, **costs})
        for i, gain in enumerate(gains)
    ]
    return SweepTable(setting, rows)


def cells(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:]}


def test_values_beside_quality_and_cost() -> None:
    text = str(table("step-penalty", 0.7, 0.6))
    assert text.splitlines()[0].split() == "step-penalty nDCG@10 reward nDCG@10 searches LM calls steps".split()
    assert cells(text) == {
        "0": ["0.7000", "0.5000", "2.00", "12.50", "3.50"],
        "1": ["0.6000", "0.5000", "2.00", "12.50", "3.50"],
    }


def test_seeds_have_a_mean_and_a_spread() -> None:
    made = table("seed", 0.70, 0.72, 0.74)
    rows = cells(str(made))
    assert list(rows) == ["0", "1", "2", "mean", "sd", "min", "max"]
    assert [rows[kind][0] for kind in ("mean", "sd", "min", "max")] == ["0.7200", "0.0200", "0.7000", "0.7400"]
    assert rows["sd"][2] == "0.0000"
    assert made.to_json()["spread"]["nDCG@10"]["sd"] == pytest.approx(0.02)
    assert not table("lr", 0.7, 0.8).spread


def test_one_seed_has_no_spread_to_speak_of() -> None:
    made = table("seed", 0.7)
    assert cells(str(made))["sd"][0] == "-"
    assert json.loads(json.dumps(made.to_json(), allow_nan=False))["spread"]["nDCG@10"]["sd"] is None


def test_csv_and_json_hold_every_column_unrounded() -> None:
    made = table("lr", 1 / 3, 0.5)
    rows = list(csv.DictReader(made.to_csv().splitlines()))
    assert [row["run"] for row in rows] == ["lr=0", "lr=1"]
    assert float(rows[0]["nDCG@10"]) == 1 / 3
    first = made.to_json()["rows"][0]
    assert (first["value"], first["run"], first["nDCG@10"], first["LM calls"]) == (0.0, "lr=0", 1 / 3, 12.5)
    assert set(first) == {"value", *rows[0]} - {"lr"}
