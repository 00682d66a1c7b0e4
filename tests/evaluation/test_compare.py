"""The command over files of every origin: what it prints and writes, and what it says about files it cannot use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.data.trec import read_trec_run
from searchrl.evaluation.measures import evaluate
from searchrl.evaluation.runs import JudgedRun, compare_runs, with_distinct_names
from searchrl.evaluation.significance import paired_comparison
from tests.command import REPOSITORY, Outcome, Shell

QUERIES = [f"q{i:02}" for i in range(20)]
QRELS = {q: {"d0": 2, "d1": 1, f"x{q}": 1} for q in QUERIES}
SHARES = {"good": 0.9, "fair": 0.5, "poor": 0.2}


def write_run(path: Path, tag: str, share: float, queries: list[str] = QUERIES, seed: int = 0) -> Path:
    """A run that finds each relevant document with some probability, between others."""
    rng = np.random.default_rng(seed)
    lines = []
    for query in queries:
        found = [d for d in ["d0", "d1", f"x{query}"] if rng.random() < share]
        ranked = rng.permutation([*found, *(f"n{i}" for i in range(6))])
        lines += [f"{query}\tQ0\t{d}\t{rank}\t{9.5 - rank}\t{tag}\n" for rank, d in enumerate(ranked, 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    return path


@pytest.fixture
def place(shell: Shell) -> Shell:
    """Three runs and their judgments."""
    lines = [f"{query} 0 {document} {grade}\n" for query, judged in QRELS.items() for document, grade in judged.items()]
    (shell.folder / "qrels.txt").write_text("".join(lines))
    for i, (name, share) in enumerate(SHARES.items()):
        write_run(shell.folder / f"{name}.run", f"sys-{name}", share, seed=i)
    return shell


FILES = ["poor.run", "good.run", "fair.run", "--qrels", "qrels.txt"]


def rows(outcome: Outcome, head: str) -> dict[str, list[str]]:
    lines = outcome.ok.out.splitlines()
    at = next(i for i, line in enumerate(lines) if re.match(rf"{head}\s", line)) + 2
    found: dict[str, list[str]] = {}
    for line in lines[at:]:
        if not line:
            break
        name, *cells = line.split()
        found[name] = cells
    return found


def test_ranks_runs_and_tests_all_against_the_first(place: Shell) -> None:
    outcome = place.compare(*FILES)
    assert outcome.ok.out.startswith("qrels.txt: 20 judged queries\n")
    assert "note:" not in outcome.out
    table = rows(outcome, "run")
    assert list(table) == ["sys-good", "sys-fair", "sys-poor"]
    values = {
        name: evaluate({q: dict(r) for q, r in read_trec_run(place.folder / f"{name}.run").rankings.items()}, QRELS)
        for name in SHARES
    }
    for name, by_measure in values.items():
        measure, low, high, *others = table[f"sys-{name}"]
        means = {m: f"{np.mean(list(v.values())):.4f}" for m, v in by_measure.items()}
        assert [measure, *others] == [means["nDCG@10"], means["Recall@100"], means["MRR@10"]]
        assert float(low[1:-1]) < float(measure) < float(high[:-1])
    tests = rows(outcome, "method")
    assert {name: cells[0] for name, cells in tests.items()} == {"sys-good": "sys-poor", "sys-fair": "sys-poor"}
    good, poor = (list(values[name]["nDCG@10"].values()) for name in ("good", "poor"))
    expected = paired_comparison(good, poor, seed=42)
    assert tests["sys-good"][-1] == f"{expected.wins}/{expected.ties}/{expected.losses}"
    assert tests["sys-good"][1] == f"{expected.mean_difference:+.4f}"


def test_another_baseline_and_measure(place: Shell) -> None:
    outcome = place.compare(*FILES, "--baseline", "sys-fair", "--baseline", "sys-good", "--measure", "MAP@5")
    lines = outcome.ok.out.splitlines()
    assert lines[2].split()[:2] == ["run", "MAP@5"]
    tested = [line.split()[:2] for line in lines if line.startswith("sys-") and "/" in line]
    against = {"sys-fair": ["sys-poor", "sys-good"], "sys-good": ["sys-poor", "sys-fair"]}
    assert tested == [[name, baseline] for baseline, names in against.items() for name in names]


def test_any_measure_of_ir_measures_is_a_column(place: Shell) -> None:
    outcome = place.compare(*FILES, "--measure", "AP", "--also", "ERR@20", "P(rel=2)@5", "Bpref")
    assert outcome.ok.out.splitlines()[2].split() == ["run", "AP", "95%", "interval", "ERR@20", "P(rel=2)@5", "Bpref"]
    run = {q: dict(r) for q, r in read_trec_run(place.folder / "good.run").rankings.items()}
    values = evaluate(run, QRELS, ["AP", "ERR@20", "P(rel=2)@5", "Bpref"])
    expected = [np.mean(list(by_query.values())) for by_query in values.values()]
    ap, _, _, *others = rows(outcome, "run")["sys-good"]
    assert [ap, *others] == [f"{mean:.4f}" for mean in expected]


def test_json_has_every_query(place: Shell) -> None:
    place.compare(*FILES, "--json", "out/all.json").ok  # noqa: B018
    (dataset,) = json.loads((place.folder / "out" / "all.json").read_text())["datasets"]
    assert list(dataset["runs"]) == ["sys-good", "sys-fair", "sys-poor"]
    good = dataset["runs"]["sys-good"]
    assert list(good["per_query"]["nDCG@10"]) == QUERIES
    assert good["metrics"]["nDCG@10"] == pytest.approx(np.mean(list(good["per_query"]["nDCG@10"].values())))
    assert (good["file"], good["missing"], good["unjudged"]) == ("good.run", 0, 0)
    assert [t["method"] for t in dataset["tests"]] == ["sys-good", "sys-fair"]


def test_the_same_command_gives_the_same_bytes(place: Shell) -> None:
    first, again = (place.compare(*FILES, "--json", name).ok.out for name in ("a.json", "b.json"))
    assert first == again
    assert (place.folder / "a.json").read_bytes() == (place.folder / "b.json").read_bytes()


def test_queries_that_a_run_lacks_count_as_zero_and_are_said(place: Shell) -> None:
    whole = rows(place.compare(*FILES), "run")["sys-good"]
    run = place.folder / "good.run"
    kept = [line for line in run.read_text().splitlines(True) if not line.startswith(("q00", "q07"))]
    run.write_text("".join(kept) + "other Q0 d0 1 1 sys-good\n")
    outcome = place.compare(*FILES)
    assert "note: sys-good lacks 2 judged queries (first: 'q00'), counted as 0" in outcome.ok.out
    assert "note: sys-good has 1 query without judgments, left out" in outcome.out
    values = evaluate({q: dict(r) for q, r in read_trec_run(run).rankings.items()}, QRELS)["nDCG@10"]
    mean = rows(outcome, "run")["sys-good"][0]
    assert mean == f"{sum(values.values()) / len(QUERIES):.4f}"
    assert float(mean) < float(whole[0])
    assert rows(place.compare(*FILES, "--answered-only"), "run")["sys-good"][0] == mean, "the others answer them"


def test_runs_on_a_sample_of_the_queries(place: Shell) -> None:
    for name, share in SHARES.items():
        write_run(place.folder / f"{name}.run", name, share, QUERIES[:5])
    assert place.compare(*FILES).ok.out.count("lacks 15 judged queries") == 3
    outcome = place.compare(*FILES, "--answered-only")
    assert outcome.ok.out.startswith("qrels.txt: 5 judged queries\n")
    assert "note:" not in outcome.out


def test_names_where_tags_repeat(place: Shell) -> None:
    for folder in ("mine", "theirs"):
        write_run(place.folder / folder / "a.run", "Anserini", 0.5)
    write_run(place.folder / "b.run", "Anserini", 0.5, seed=1)
    assert set(rows(place.compare("mine/a.run", "b.run", "--qrels", "qrels.txt"), "run")) == {"a", "b"}
    several = rows(place.compare("mine/a.run", "theirs/a.run", "--qrels", "qrels.txt"), "run")
    assert set(several) == {"mine/a.run", "theirs/a.run"}
    assert "b.run: given twice" in place.compare("b.run", "b.run", "--qrels", "qrels.txt").error


def test_several_data_sets_are_corrected_together(place: Shell) -> None:
    other = {q: {"d1": 1} for q in QUERIES[:12]}
    (place.folder / "beir" / "qrels").mkdir(parents=True)
    text = "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\td1\t1\n" for q in other)
    (place.folder / "beir" / "qrels" / "dev.tsv").write_text(text)
    for folder in ("one", "two"):
        for i, (name, share) in enumerate({"single_pass": 0.4, **SHARES}.items()):
            write_run(place.folder / folder / f"{name}.run", name, share, seed=i)
    qrels = ["--qrels", "qrels.txt", "--qrels", "beir", "--split", "dev"]
    outcome = place.compare("one", "two", *qrels, "--json", "all.json")
    overview = rows(outcome, "nDCG@10")
    assert set(overview) == {"single_pass", *SHARES}
    assert [cells[2] for cells in overview.values()] == sorted((c[2] for c in overview.values()), reverse=True)
    assert float(overview["good"][2]) == pytest.approx(np.mean([float(v) for v in overview["good"][:2]]), abs=1e-4)
    both = json.loads((place.folder / "all.json").read_text())["datasets"]
    assert [d["judgments"] for d in both] == ["qrels.txt", "beir/qrels/dev.tsv"]
    family = [t for d in both for t in d["tests"]]
    assert {t["baseline"] for t in family} == {"single_pass"}
    assert len(family) == 6
    least = min(family, key=lambda t: t["p_randomisation"])
    assert least["p_holm"] == pytest.approx(min(1, 6 * least["p_randomisation"]))
    assert "as many folders" in place.compare("one", *qrels).error
    assert "as many folders" in place.compare("one", "good.run", *qrels).error
    assert "given twice" in place.compare("one", "two", "--qrels", "qrels.txt", "--qrels", "qrels.txt").error


def test_what_eval_writes_can_be_compared(trained: tuple[Shell, Outcome], small_folder: Path, shell: Shell) -> None:
    place = trained[0]
    said = place.eval("--output-dir", shell.folder / "results").ok.out
    outcome = shell.compare("results", "--qrels", small_folder)
    table = rows(outcome, "run")
    for line in said.splitlines():
        name = line.split()[0] if line else ""
        if (
            name in table
            and f"{name} lacks" not in outcome.out
            and len(line.split()) > 8
            and "/" not in line
            and "±" not in line
        ):
            ndcg, recall, mrr = line.split()[1:4]
            assert [table[name][0], *table[name][3:]] == [ndcg, recall, mrr]
    tests = rows(outcome, "method")
    assert "oracle" not in tests
    assert {cells[0] for cells in tests.values()} == {"single_pass"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["name the run files"]),
        (["--qrels", "qrels.txt"], ["name the run files"]),
        (["good.run"], ["--qrels is missing"]),
        (["good.run", "--qrels", "none.txt"], ["none.txt: no such file"]),
        (["none.run", "--qrels", "qrels.txt"], ["none.run: no such file"]),
        (["empty", "--qrels", "qrels.txt"], ["empty: no *.run files"]),
        (["good.run", "--qrels", "empty"], ["empty/qrels/test.tsv", "not a BEIR folder"]),
        (["good.run", "--qrels", "dev", "--split", "train"], ["dev/qrels/train.tsv", "choose another split: dev"]),
        (["good.run", "--qrels", "good.run"], ["good.run, line 1", "4 columns are expected, found 6"]),
        (["qrels.txt", "--qrels", "qrels.txt"], ["qrels.txt, line 1", "6 columns are expected, found 4"]),
        (["good.run", "--qrels", "bad.txt"], ["bad.txt, line 2", "'high' is not an integer"]),
        (["bad.run", "--qrels", "qrels.txt"], ["bad.run, line 3", "'best' is not a number"]),
        (["good.run", "strange.run", "--qrels", "qrels.txt"], ["strange.run", "'17'", "'q00'", "qrels.txt"]),
        (["good.run", "--qrels", "qrels.txt", "--baseline", "sys-god"], ["did you mean 'sys-good'"]),
        (["good.run", "--qrels", "qrels.txt", "--measure", "nDGC@10"], ["nDCG@10"]),
        (["good.run", "--qrels", "qrels.txt", "--seed", "-1"], ["--seed -1"]),
        (["good.run", "--qrels", "qrels.txt", "--json", "empty"], ["empty cannot be written"]),
    ],
)
def test_one_clear_error(place: Shell, flags: list[str], words: list[str]) -> None:
    folder = place.folder
    (folder / "empty").mkdir()
    (folder / "dev" / "qrels").mkdir(parents=True)
    (folder / "dev" / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq00\td0\t1\n")
    (folder / "bad.txt").write_text("q00 0 d0 1\nq01 0 d0 high\n")
    (folder / "bad.run").write_text("q00 Q0 d0 1 3 t\nq00 Q0 d1 2 2.5 t\nq00 Q0 d2 3 best t\n")
    write_run(folder / "strange.run", "strange", 0.5, ["17", "18"])
    error = place.compare(*flags).error
    assert all(word in error for word in words), error


def test_pydocs_by_name(shell: Shell) -> None:
    from searchrl.data.pydocs import load_pydocs

    test = load_pydocs().splits["test"]
    perfect = "".join(f"{q} Q0 {d} 1 {g} perfect\n" for q in test.ids for d, g in test.qrels[q].items())
    (shell.folder / "perfect.run").write_text(perfect)
    outcome = shell.compare("perfect.run", "--qrels", "pydocs")
    assert outcome.ok.out.startswith(f"pydocs test: {len(test)} judged queries")
    assert rows(outcome, "run")["perfect"][0] == "1.0000"


@settings(max_examples=15)
@given(st.dictionaries(st.sampled_from(QUERIES), st.floats(0, 1), min_size=1), st.randoms(use_true_random=False))
def test_the_ranking_is_by_mean_and_ignores_the_order_given(values: dict[str, float], random) -> None:
    def run(name: str, share: float) -> JudgedRun:
        scored = {q: share * values.get(q, 0.0) for q in QUERIES}
        return JudgedRun(name, Path(name), {"nDCG@10": scored}, frozenset(values), 0)

    runs = [run("half", 0.5), run("whole", 1.0), run("fifth", 0.2)]
    random.shuffle(runs)
    (all_queries,) = compare_runs({"j": runs}, "nDCG@10")
    (answered,) = compare_runs({"j": runs}, "nDCG@10", answered_only=True)
    if any(value > 1e-6 for value in values.values()):
        assert [r.name for r in all_queries.ranked] == ["whole", "half", "fifth"]
    assert set(answered.queries) == set(values)
    ratio = len(values) / len(QUERIES)
    assert all_queries.mean(runs[0], "nDCG@10") == pytest.approx(ratio * answered.mean(runs[0], "nDCG@10"))


def test_groups_are_named_alike() -> None:
    def run(name: str, path: str) -> JudgedRun:
        return JudgedRun(name, Path(path), {}, (), 0)

    groups = [[run("t", "1/a.run"), run("u", "1/b.run")], [run("t", "2/a.run"), run("t", "2/b.run")]]
    assert [[r.name for r in runs] for runs in with_distinct_names(groups)] == [["a", "b"], ["a", "b"]]


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    spy = "import atexit, sys; atexit.register(lambda: print('loaded:', *sys.modules, file=sys.stderr)); "
    code = f"{spy}sys.argv = ['compare', '--help']; from searchrl.evaluation.compare import main; main()"
    environment = os.environ | {"COLUMNS": "80", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr[done.stderr.index("loaded:") :].split())
    assert not {"numpy", "scipy", "torch", "pytrec_eval", "ir_measures", "gymnasium", "beir"} & loaded
    for flag in ("--qrels", "--split", "--baseline", "--json", "--measure"):
        assert flag in done.stdout
