"""Ids that queries and documents share by accident cost nothing, and a query's own document counts for nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from searchrl.data.beir import write_beir_folder
from searchrl.data.dataset import Corpus, Dataset, QuerySet
from searchrl.errors import DataError
from searchrl.evaluation.runs import compare_runs, judge_run, own_documents, read_judgments
from tests.command import Shell

CORPUS = Corpus(["0", "1", "2"], [""] * 3, ["Tea grows on hills.", "Salt melts ice.", "Coal burns."])
QUERIES = QuerySet(
    ["0", "1", "9"],
    ["what grows on hills?", "Salt melts ice.", "what burns?"],
    {"0": {"0": 1}, "1": {"2": 1}, "9": {"2": 1}},
)
RUN = "0 Q0 0 1 2 a\n0 Q0 1 2 1 a\n1 Q0 1 1 2 a\n1 Q0 2 2 1 a\n9 Q0 2 1 2 a\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_beir_folder(Dataset("numbered", CORPUS, {"test": QUERIES}), tmp_path / "numbered")
    (tmp_path / "a.run").write_text(RUN)
    return tmp_path / "numbered"


def scores(folder: Path, qrels: Path, rule: str) -> tuple[dict[str, float], int]:
    judgments, judged = read_judgments(qrels)
    own = own_documents(qrels, "test", judged, rule)  # type: ignore[arg-type]
    run = judge_run(folder.parent / "a.run", judged, ["nDCG@10"], judgments, own)
    return {query: round(value, 3) for query, value in run.values["nDCG@10"].items()}, run.own


def test_runs_of_other_tools_are_measured_by_the_same_rule(folder: Path) -> None:
    assert scores(folder, folder, "text") == ({"0": 1.0, "1": 1.0, "9": 1.0}, 0)
    assert scores(folder, folder, "id") == ({"0": 1.0, "1": 1.0, "9": 1.0}, 0)
    assert scores(folder, folder, "none") == ({"0": 1.0, "1": 0.631, "9": 1.0}, 0)


def test_judgments_without_texts_leave_it_and_say_so(folder: Path) -> None:
    assert scores(folder, folder / "qrels" / "test.tsv", "text") == ({"0": 1.0, "1": 0.631, "9": 1.0}, 1)
    assert scores(folder, folder / "qrels" / "test.tsv", "id") == ({"0": 1.0, "1": 1.0, "9": 1.0}, 0)
    judgments, judged = read_judgments(folder / "qrels" / "test.tsv")
    run = judge_run(folder.parent / "a.run", judged, ["nDCG@10"], judgments)
    (comparison,) = compare_runs({judgments: [run]}, "nDCG@10")
    assert "a ranks a document with the query's own id for 1 query" in str(comparison)


def test_queries_that_a_run_was_not_made_for_are_left_out(folder: Path, tmp_path: Path) -> None:
    made = tmp_path / "eval"
    made.mkdir()
    (made / "single_pass.run").write_text(RUN.replace(" a\n", " single_pass\n"))
    (made / "bm25.run").write_text("")
    records = [{"query_id": q, "methods": {"single_pass": {}, "bm25": {}}} for q in ("0", "1")]
    (made / "per_query.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    judgments, judged = read_judgments(folder)
    runs = [judge_run(made / f"{name}.run", judged, ["nDCG@10"], judgments, {}) for name in ("single_pass", "bm25")]
    (comparison,) = compare_runs({judgments: runs}, "nDCG@10")
    assert comparison.queries == ["0", "1"]
    assert comparison.mean(runs[1], "nDCG@10") == 0.0, "it was made for both and found nothing"
    assert "note: 1 judged query left out: not every run here searched for them" in str(comparison)
    foreign = judge_run(folder.parent / "a.run", judged, ["nDCG@10"], judgments, {})
    assert compare_runs({judgments: [foreign]}, "nDCG@10")[0].queries == ["0", "1", "9"]
    (made / "per_query.jsonl").write_text('{"query_id": 3}\n')
    with pytest.raises(DataError, match=r"not what eval\.py wrote"):
        judge_run(made / "bm25.run", judged, ["nDCG@10"], judgments, {})


def test_embedding_and_measuring_agree(shell: Shell, folder: Path) -> None:
    flags = ("--dataset-path", folder, "--device", "cpu", "--no-cache")
    shell.embed(*flags, "--output", "e.json", "--output-eval", "ev.json").ok  # noqa: B018
    found = json.loads((shell.folder / "ev.metrics.json").read_text())["embed"]["mean"]
    assert found["nDCG@10"] == 1.0
    assert "1" not in json.loads((shell.folder / "ev.json").read_text())["1"], "the query itself"
