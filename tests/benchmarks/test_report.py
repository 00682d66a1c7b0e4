from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import report as module
from benchmarks.bench import Bench
from benchmarks.growth import Growth
from benchmarks.measure import Figure
from benchmarks.report import Rates, Report, Workload, check_plot, estimate, workload, write_plot
from benchmarks.session import QUICK, Pairs, Played, Session
from searchrl.errors import ConfigError, OutputError

RATES = Rates(
    libraries=2.0,
    data=1.0,
    name_models=0.5,
    load_models=8.0,
    documents=10.0,
    indexes=0.25,
    queries=50.0,
    load_graph=0.001,
    tokens=400.0,
    episodes=2000.0,
    tables=3.0,
)
LOAD = Workload(documents=100, queries=200, pairs=50, tokens=4_000, episodes=10_000)


def test_an_estimate_is_work_by_rate_and_warm_leaves_out_what_is_stored() -> None:
    cold, warm = estimate(RATES, LOAD, cold=True), estimate(RATES, LOAD, cold=False)
    assert cold == {
        "libraries": 2.0,
        "data": 1.0,
        "models and their libraries": 8.5,
        "encoding the corpus": 10.0,
        "indexes": 0.25,
        "playing the search graphs": 4.0,
        "judging": 10.0,
        "training": 5.0,
        "evaluation and tables": 3.0,
        "total": 43.75,
    }
    assert list(warm) == list(cold)
    stored = {"encoding the corpus": 0.0, "judging": 0.0, "playing the search graphs": 0.2}
    stored |= {"models and their libraries": 0.5, "total": 11.95}
    assert warm == pytest.approx(cold | stored)


def tokens_without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document is ten tokens, a query one."""

    def work_of(session: Session, pairs: Pairs) -> tuple[int, float]:
        return 10 * len({document for _, document in pairs}) + len(pairs), 0.0

    monkeypatch.setattr(module, "work_of", work_of)


def test_all_queries_played_is_counted_not_guessed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens_without_a_model(monkeypatch)
    session = Session(bench, QUICK)
    asked = [(text, "same") for queries in session.played.values() for text in queries.texts]
    graphs = {split: range(len(queries)) for split, queries in session.played.items()}
    load = workload(session, Played(graphs, [asked], 1.0, 1.0))
    assert (load.documents, load.queries, load.episodes) == (len(bench.dataset.corpus), len(asked), 10_000)
    assert (load.pairs, load.tokens) == (len(asked), 10 + len(asked))


@pytest.mark.parametrize(("shared", "factor"), [(False, 4.0), (True, None)])
def test_more_queries_than_played_are_extrapolated_documents_that_queries_share_less(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, shared: bool, factor: float | None
) -> None:
    tokens_without_a_model(monkeypatch)
    everything = sum(len(bench.queries(split)) for split in ("train", "dev"))
    session = Session(bench, replace(QUICK, queries=everything // 4))
    texts = [text for queries in session.played.values() for text in queries.texts]
    assert len(texts) == everything / 4
    asked = [(text, "same" if shared else f"document of {text}") for text in texts]
    graphs = {split: range(len(queries)) for split, queries in session.played.items()}
    load = workload(session, Played(graphs, [asked], 1.0, 1.0))
    assert load.queries == everything
    assert load.pairs == 4 * len(asked)
    if factor:
        assert load.tokens == factor * 11 * len(asked)
    else:
        assert 10 + len(asked) < load.tokens < 2 * (10 + len(asked))


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
    with pytest.raises(OutputError, match="name another file for the plot"):
        write_plot(tmp_path / "file" / "x.png", GROWTHS, ESTIMATES, "pydocs")


def test_what_cannot_be_drawn_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"plot x\.pdf: pictures are PNG; name it x\.png"):
        check_plot(Path("x.pdf"))
    check_plot(Path("x.png"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs matplotlib, which is an extra: uv pip install 'searchrl\[plot\]'"):
        check_plot(Path("x.png"))
