"""The ndcg stage: every kind of ranking file, the numbers of trec_eval, and every judged query counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.data.dataset import Dataset
from searchrl.evaluation.measures import evaluate
from searchrl.evaluation.results import RankedQuery, read_results, write_evaluation, write_records
from tests.command import Outcome, Shell, files
from tests.evaluation.stage_case import read


@pytest.fixture
def place(shell: Shell, small_dataset: Dataset) -> Shell:
    """Rankings in all three kinds of file, the first query's missing."""
    queries, ids = small_dataset.splits["test"], small_dataset.corpus.ids
    rng = np.random.default_rng(0)
    ranked = [
        RankedQuery(query_id, [*queries.qrels[query_id], *rng.permutation(ids)][i % 3 : 9], [1.0] * (9 - i % 3))
        for i, query_id in enumerate(queries.ids[1:])
    ]
    ranked = [RankedQuery(q.query_id, list(dict.fromkeys(q.key_ids)), q.scores) for q in ranked]
    ranked = [RankedQuery(q.query_id, q.key_ids, q.scores[: len(q.key_ids)]) for q in ranked]
    write_records(shell.folder / "records.json", ranked, queries.qrels)
    write_evaluation(shell.folder / "eval.json", ranked, queries.qrels, "mine")
    return shell


def tables(outcome: Outcome) -> dict[str, dict[str, float]]:
    """File -> measure -> what was printed."""
    found: dict[str, dict[str, float]] = {}
    _, *blocks = outcome.ok.out.split("\n\n")
    for block in blocks:
        name, head, _, *rows = block.strip().splitlines()
        for row in rows:
            cutoff, *cells = row.split()
            values = {f"{m}{cutoff}": float(c) for m, c in zip(head.split()[1:], cells, strict=True)}
            found.setdefault(name, {}).update(values)
    return found


def test_all_kinds_of_files_are_measured_alike(place: Shell, small_folder: Path, small_dataset: Dataset) -> None:
    names = ["eval.json", "records.json", "eval.run"]
    flags = [*names, "--dataset-path", small_folder, "--k-values", 1, 3, 10, "--output", "m.json"]
    printed = tables(place.ndcg(*flags))
    assert list(printed) == names
    assert printed["eval.json"] == printed["records.json"] == printed["eval.run"]
    qrels = small_dataset.splits["test"].qrels
    measures = [f"{name}@{k}" for name in ("nDCG", "MAP", "Recall", "P", "MRR") for k in (1, 3, 10)]
    values = evaluate(read(place.folder / "eval.json"), qrels, measures)
    assert printed["eval.json"] == {m: round(sum(v.values()) / len(qrels), 4) for m, v in values.items()}
    first, *others = values["nDCG@10"].values()
    assert first == 0.0, "a judged query that is not ranked counts"
    assert all(others)
    written = read(place.folder / "m.json")
    assert list(written) == names
    assert written["eval.run"]["per_query"] == values
    assert written["eval.run"]["mean"] == pytest.approx(printed["eval.run"], abs=5e-5)


def test_further_measures(place: Shell, small_folder: Path, small_dataset: Dataset) -> None:
    flags = ["--dataset-path", small_folder, "--measures", "AP", "ERR@20", "--output", "m.json"]
    outcome = place.ndcg("eval.json", *flags).ok
    values = evaluate(read(place.folder / "eval.json"), small_dataset.splits["test"].qrels, ["AP", "ERR@20"])
    means = {measure: sum(by_query.values()) / len(by_query) for measure, by_query in values.items()}
    assert [line.split() for line in outcome.out.splitlines()[-2:]] == [[m, f"{v:.4f}"] for m, v in means.items()]
    assert read(place.folder / "m.json")["eval.json"]["mean"]["AP"] == pytest.approx(means["AP"])
    assert "did you mean 'AP'" in place.ndcg("eval.json", "--dataset-path", small_folder, "--measures", "APP").error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "name the files to measure"),
        (["nowhere.json"], "nowhere.json: no such file"),
        (["eval.json", "--k-values", "0"], "--k-values 0: give cutoffs of at least 1"),
        (["eval.json", "--k-values"], "give cutoffs of at least 1"),
        (["eval.json", "--output", "eval.json"], "eval.json: would be overwritten"),
        (["eval.json", "--split", "train"], "eval.json: none of its 11 queries (first: "),
        (["."], "cannot be read"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(place: Shell, small_folder: Path, flags: list[str], message: str) -> None:
    before = files(place.folder)
    assert message in place.ndcg(*flags, "--dataset-path", small_folder).error
    assert files(place.folder) == before


ids = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=4)
rankings = st.dictionaries(ids, st.dictionaries(ids, st.integers(-9, 9).map(lambda i: i / 4), min_size=1), min_size=1)


@settings(max_examples=40)
@given(wanted=rankings)
def test_what_a_stage_writes_every_reader_orders_alike(tmp_path_factory: pytest.TempPathFactory, wanted: dict) -> None:
    folder = tmp_path_factory.mktemp("ndcg")
    ranked = []
    for query_id, scores in wanted.items():
        best = sorted(scores.items(), key=lambda item: -item[1])
        ranked.append(RankedQuery(query_id, [d for d, _ in best], [score for _, score in best]))
    qrels = {query.query_id: {query.key_ids[-1]: 1} for query in ranked}
    write_records(folder / "r.json", ranked, qrels)
    means = write_evaluation(folder / "e.json", ranked, qrels, "t")
    orders = [
        {q: sorted(d, key=lambda i, d=d: -d[i]) for q, d in read_results(folder / name).items()}
        for name in ("r.json", "e.json", "e.run")
    ]
    assert orders == [{query.query_id: list(query.key_ids) for query in ranked}] * 3
    for name in ("r.json", "e.json", "e.run"):
        mrr = evaluate(read_results(folder / name), qrels, ["MRR@10"])["MRR@10"]
        assert sum(mrr.values()) / len(mrr) == pytest.approx(means["MRR@10"])
        assert mrr == {q.query_id: pytest.approx(1 / len(q.key_ids)) if len(q.key_ids) <= 10 else 0.0 for q in ranked}


@pytest.mark.parametrize("content", ['{"q": {"a": "1"}}', '{"q": {"a": NaN}}', '{"q 1": {"a": 1}}', '{"q": [1]}', "{}"])
def test_a_damaged_evaluation_file(place: Shell, small_folder: Path, content: str) -> None:
    (place.folder / "bad.json").write_text(content)
    assert "bad.json" in place.ndcg("bad.json", "--dataset-path", small_folder).error


def test_the_byte_order_mark_and_blank_lines_do_not_matter(place: Shell, small_folder: Path) -> None:
    content = json.dumps(read(place.folder / "eval.json"))
    (place.folder / "bom.json").write_bytes(b"\xef\xbb\xbf \n" + content.encode())
    assert read_results(place.folder / "bom.json") == read_results(place.folder / "eval.json")
