from __future__ import annotations

import json

import pytest

from benchmarks import machine
from benchmarks.estimate import estimate
from benchmarks.figure import Figure
from benchmarks.growth import Growth
from benchmarks.machine import describe_machine, load_average, matrix_product
from benchmarks.report import Report
from searchrl.device import choose_device
from tests.benchmarks.test_estimate import LOAD, RATES


def report(load: float | None) -> Report:
    estimates = {name: estimate(RATES, LOAD, cold=name == "cold") for name in ("cold", "warm")}
    figures = [Figure("encoding", "documents", 40.0, "documents/s", 10.0)]
    growths = [Growth("play", "queries", {100: 1.0})]
    return Report({"cpus": 4, "device": "cpu"}, [load, 4.0], "pydocs", figures, RATES, LOAD, estimates, growths)


def test_json_is_strict_and_has_units_ratios_and_machine() -> None:
    content = report(0.5).to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["figures"][0] | {"ratio": 4.0, "unit": "documents/s"} == content["figures"][0]
    assert content["growth"][0]["exponent"] is None, "one size has no slope, and JSON has no NaN"
    assert content["machine"] == {"cpus": 4, "device": "cpu"}
    assert content["load_average"] == {"before": 0.5, "after": 4.0}
    assert content["workload"]["tokens"] == 4_000


def test_a_busy_machine_is_said_so_and_an_idle_one_is_not() -> None:
    assert "busy: 2.0 programs wanted its 4 processors" in report(2.0).text()
    assert "busy" not in report(0.5).text()
    assert "busy" not in report(None).text()


def test_the_estimate_is_printed_part_by_part_cold_beside_warm() -> None:
    rows = [line.rsplit(maxsplit=2) for line in report(None).text().splitlines()]
    assert ["judging", "10", "0"] in rows
    assert ["total", "43.8", "11.9"] in rows


def test_the_machine_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = describe_machine(choose_device("cpu"))
    assert facts["processor"] == facts["device_name"] != ""
    assert json.dumps(facts)
    assert load_average() is None or load_average() >= 0
    monkeypatch.delattr("os.getloadavg", raising=False)
    assert load_average() is None


def test_a_large_product_counts_its_operations_in_every_format_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CPU_SIZE", 64)
    for name in ("float32", "int8"):
        product = matrix_product(name, "cpu")
        if product is not None:
            assert product(0) % (2 * 64**3) == 0
            assert product(0) > 0
    assert matrix_product("float32", "cpu") is not None
    monkeypatch.setattr(machine, "GPU_SIZE", 8)
    assert matrix_product("int8", "cuda") is None
