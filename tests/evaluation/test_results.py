from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from searchrl.data.dataset import QuerySet
from searchrl.data.trec import read_trec_run
from searchrl.errors import OutputError
from searchrl.evaluation.comparison import ComparisonTable, MethodResult
from searchrl.evaluation.measures import evaluate, evaluate_ranking
from searchrl.evaluation.results import PER_QUERY_FILE, RESULTS_FILE, SweepRow, SweepTable, write_results
from searchrl.retrieval.ranking import NO_DOCUMENT, Ranking

DOC_IDS = ["a", "b", "c", "d"]
QUERIES = QuerySet(
    ["q1", "q2", "q3"],
    ["först", "second \ud800", "third"],  # a lone surrogate: JSON can carry it, UTF-8 cannot
    {"q1": {"a": 1}, "q2": {"b": 2, "c": 1}, "q3": {"d": 1}},
)


def method(name: str, documents, scores=None) -> MethodResult:
    documents = np.array(documents, dtype=np.int32)
    scores = np.where(documents == NO_DOCUMENT, -np.inf, 0.5 if scores is None else scores).astype(np.float32)
    ranking = Ranking(documents, scores)
    ones, fractions = np.ones(3), np.array([0.5, 0, 0, 0.5])
    metrics = evaluate_ranking(ranking, QUERIES, DOC_IDS)
    return MethodResult(name, metrics, 2 * ones, ones, 0 * ones, fractions, ranking, [[0, 3]] * 3)


def table() -> ComparisonTable:
    tied = method("single_pass", [[0, 3, 1], [2, 1, 0], [0, 1, NO_DOCUMENT]])
    agent = method("rl_agent", [[0, 3, 1], [1, 2, 0], [3, 1, 0]], np.array([[3.0, 2.0, 1.0]]))
    return ComparisonTable.build([tied, agent])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_all_files_and_nothing_else(tmp_path):
    write_results(tmp_path / "deep" / "run", table(), QUERIES, DOC_IDS, {})
    names = {"single_pass.run", "rl_agent.run", PER_QUERY_FILE, RESULTS_FILE}
    assert set(contents(tmp_path / "deep" / "run")) == names


def test_run_files_reproduce_the_metrics_ties_included(tmp_path):
    compared = table()
    write_results(tmp_path, compared, QUERIES, DOC_IDS, {})
    for result in compared.methods:
        run = read_trec_run(tmp_path / f"{result.name}.run")
        assert run.tag == result.name
        read = {query: dict(ranked) for query, ranked in run.rankings.items()}
        for measure, by_query in evaluate(read, QUERIES.qrels).items():
            assert list(by_query.values()) == result.metrics[measure].tolist()


def test_every_query_has_a_line(tmp_path):
    compared = table()
    write_results(tmp_path, compared, QUERIES, DOC_IDS, {})
    lines = [json.loads(line) for line in (tmp_path / PER_QUERY_FILE).read_text(encoding="utf-8").splitlines()]
    assert [line["query_id"] for line in lines] == list(QUERIES.ids)
    assert [line["text"] for line in lines] == list(QUERIES.texts)
    assert "först" in (tmp_path / PER_QUERY_FILE).read_text(encoding="utf-8")
    for i, line in enumerate(lines):
        assert line["methods"]["rl_agent"]["nDCG@10"] == compared.methods[1].metrics["nDCG@10"][i]
    assert lines[0]["methods"]["single_pass"]["actions"] == [0, 3]
    assert lines[0]["methods"]["single_pass"]["steps"] == 2


def test_results_hold_the_table_and_what_was_evaluated(tmp_path):
    write_results(tmp_path, table(), QUERIES, DOC_IDS, {"dataset": "tiny", "split": "test"})
    value = json.loads((tmp_path / RESULTS_FILE).read_text(encoding="utf-8"))
    assert value.pop("details") == {"dataset": "tiny", "split": "test"}
    assert value == json.loads(json.dumps(table().to_json()))


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    for name in ("one", "two", "two"):  # the last over what is there
        write_results(tmp_path / name, table(), QUERIES, DOC_IDS, {"dataset": "tiny"})
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        write_results(tmp_path / "file", table(), QUERIES, DOC_IDS, {})


def sweep(setting: str, *gains: float) -> SweepTable:
    costs = {"searches": 2.0, "LM calls": 12.5, "steps": 3.5}
    rows = [
        SweepRow(str(i), f"{setting}={i}", {"nDCG@10": gain, "Recall@100": 0.9, "reward nDCG@10": 0.5, **costs})
        for i, gain in enumerate(gains)
    ]
    return SweepTable(setting, rows)


def sweep_cells(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:]}


def test_values_beside_quality_and_cost() -> None:
    text = str(sweep("step-penalty", 0.7, 0.6))
    assert text.splitlines()[0].split() == "step-penalty nDCG@10 reward nDCG@10 searches LM calls steps".split()
    assert sweep_cells(text) == {
        "0": ["0.7000", "0.5000", "2.00", "12.50", "3.50"],
        "1": ["0.6000", "0.5000", "2.00", "12.50", "3.50"],
    }


def test_seeds_have_a_mean_and_a_spread() -> None:
    made = sweep("seed", 0.70, 0.72, 0.74)
    rows = sweep_cells(str(made))
    assert list(rows) == ["0", "1", "2", "mean", "sd", "min", "max"]
    assert [rows[kind][0] for kind in ("mean", "sd", "min", "max")] == ["0.7200", "0.0200", "0.7000", "0.7400"]
    assert rows["sd"][2] == "0.0000"
    assert made.to_json()["spread"]["nDCG@10"]["sd"] == pytest.approx(0.02)
    assert not sweep("lr", 0.7, 0.8).spread


def test_one_seed_has_no_spread_to_speak_of() -> None:
    made = sweep("seed", 0.7)
    assert sweep_cells(str(made))["sd"][0] == "-"
    assert json.loads(json.dumps(made.to_json(), allow_nan=False))["spread"]["nDCG@10"]["sd"] is None


def test_csv_and_json_hold_every_column_unrounded() -> None:
    made = sweep("lr", 1 / 3, 0.5)
    rows = list(csv.DictReader(made.to_csv().splitlines()))
    assert [row["run"] for row in rows] == ["lr=0", "lr=1"]
    assert float(rows[0]["nDCG@10"]) == 1 / 3
    first = made.to_json()["rows"][0]
    assert (first["value"], first["run"], first["nDCG@10"], first["LM calls"]) == (0.0, "lr=0", 1 / 3, 12.5)
    assert set(first) == {"value", *rows[0]} - {"lr"}
