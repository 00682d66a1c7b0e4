"""The report: that it is one sound page, says what the table says, and that no text in it becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from searchrl.data.dataset import QuerySet
from searchrl.env.tree import build_tree
from searchrl.errors import OutputError
from searchrl.evaluation import charts
from searchrl.evaluation.charts import Point, write_pictures
from searchrl.evaluation.comparison import ComparisonTable
from searchrl.evaluation.report import embedded_json, headroom_captured, render, write_report, write_sweep_page
from searchrl.evaluation.report_data import Curves, end_states, find_run, first_words, read_curves, visits
from searchrl.evaluation.results import SweepRow, SweepTable
from tests.command import Outcome, Shell
from tests.evaluation import report_case as case

VOID = {"meta", "input"}


class Page(HTMLParser):
    """Reads a page strictly: every element closed in order, ids unique, script and style by themselves."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attributes}) == len(attributes), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in self.raw:
            self.raw[tag].append("")
        if tag == "table":
            self._rows = []
        if tag == "tr":
            self._rows.append([])
        if tag in ("th", "td"):
            self._rows[-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        raise AssertionError(f"<{tag}/> means something else in HTML")

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> too many"
        assert self.open.pop() == tag
        if tag == "caption":
            self.tables[self.texts[-1]] = self._rows

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]][-1] += data
            return
        self.texts.append(data)
        if self.open and self.open[-1] in ("th", "td"):
            self._rows[-1][-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    @property
    def data(self) -> dict[str, Any]:
        """What the explorer reads."""
        (embedded,) = [
            text
            for text, (_, attributes) in zip(
                self.raw["script"], [e for e in self.elements if e[0] == "script"], strict=True
            )
            if attributes.get("id") == "data"
        ]
        return dict(json.loads(embedded))

    def names(self) -> set[str]:
        """All elements there are."""
        return {name for name, _ in self.elements}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of hostile texts."""
    return case.write(tmp_path_factory.mktemp("report")).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def evaluated(trained: tuple[Shell, Outcome], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``eval.py`` wrote for the trained policy."""
    copy = shutil.copytree(trained[0].folder, tmp_path_factory.mktemp("report") / "copy")
    shell = Shell(copy, trained[0].cache)
    shell.eval("--output-dir", "results").ok  # noqa: B018
    return copy / "results"


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def cells(page: Page, caption: str) -> dict[str, list[str]]:
    """The rows of a table by their first column, header included."""
    return {row[0]: row[1:] for row in page.tables[caption]}


def test_eval_writes_a_page_that_says_what_the_table_says(evaluated: Path) -> None:
    page, results = page_of(evaluated), json.loads((evaluated / "results.json").read_text())
    quality, costs = cells(page, "Quality"), cells(page, "Cost per query and actions")
    assert list(quality) == ["method", *results["methods"]]
    single, oracle = (results["methods"][name]["metrics"]["nDCG@10"] for name in ("single_pass", "oracle"))
    for name, found in results["methods"].items():
        shown = dict(zip(quality["method"], quality[name], strict=True))
        assert {m: shown[m] for m in found["metrics"]} == {m: f"{v:.4f}" for m, v in found["metrics"].items()}
        low, high = found["interval"]
        assert shown["95% interval"] == f"[{low:.4f}, {high:.4f}]"
        captured = (found["metrics"]["nDCG@10"] - single) / (oracle - single)
        assert shown["headroom captured"] == f"{captured:.0%}"
        spent = [f"{found[cost]:.2f}" for cost in ("avg_steps", "searches", "lm_calls")]
        assert costs[name] == [*spent, *(f"{share:.0%}" for share in found["action_fractions"])]
    header, *rows = page.tables["Paired tests"]
    assert header[-1] == "W/T/L"
    for row, test in zip(rows, results["tests"], strict=True):
        assert row[:3] == [test["method"], test["baseline"], f"{test['mean_difference']:+.4f}"]
        assert row[-2] == f"{test['p_holm']:.4f}"
        assert row[-1].strip() == f"{test['wins']}/{test['ties']}/{test['losses']}"
    bins = cells(page, "By difficulty")
    assert bins["queries"] == [str(n) for n in results["difficulty"]["queries"]]
    for name, means in results["difficulty"]["means"].items():
        spread = zip(means, results["difficulty"]["deviations"][name], strict=True)
        assert bins[name] == ["-" if mean is None else f"{mean:.4f} ± {deviation:.2f}" for mean, deviation in spread]


def test_eval_embeds_every_query(evaluated: Path) -> None:
    data = page_of(evaluated).data
    lines = [json.loads(line) for line in (evaluated / "per_query.jsonl").read_text().splitlines()]
    assert [query["id"] for query in data["queries"]] == [line["query_id"] for line in lines]
    for query, line in zip(data["queries"], lines, strict=True):
        assert query["text"] == line["text"]
        for name, score, actions in zip(data["methods"], query["scores"], query["actions"], strict=True):
            assert score == pytest.approx(line["methods"][name]["nDCG@10"], abs=1e-6)
            assert actions == line["methods"][name]["actions"]
    means = np.mean([query["scores"] for query in data["queries"]], axis=0)
    results = json.loads((evaluated / "results.json").read_text())["methods"]
    assert means == pytest.approx([results[name]["metrics"]["nDCG@10"] for name in data["methods"]], abs=1e-6)


def test_rankings_and_grades_of_an_episode_are_those_of_the_run(evaluated: Path, small_dataset: Any) -> None:
    data = page_of(evaluated).data
    runs = (evaluated / "rl_agent.run").read_text().splitlines()
    qrels = small_dataset.splits["test"].qrels
    for query in data["queries"]:
        ids = [data["documents"][number][0] for number in query["final"]]
        assert ids == [line.split()[2] for line in runs if line.split()[0] == query["id"]][:10]
        relevant = {d: g for d, g in qrels[query["id"]].items() if g > 0}
        assert query["relevant"] == len(relevant)
        shown = {*query["final"], *query["missed"], *(n for step in query["steps"] for n in step.get("ranking", []))}
        marked = {data["documents"][int(number)][0]: grade for number, grade in query["grades"].items()}
        assert marked == {d: g for d, g in relevant.items() if d in {data["documents"][n][0] for n in shown}}
        assert {data["documents"][n][0] for n in query["missed"]} <= set(relevant) - set(ids)
        taken = [step["action"] for step in query["steps"]]
        actions = query["actions"][data["agent"]]
        assert taken == actions[: len(taken)]
        assert actions[len(taken) :] in ([], [3])
        searched = [step for step in query["steps"] if "ranking" in step]
        assert searched[-1]["gain"] == pytest.approx(query["scores"][data["agent"]], abs=1e-5)


def test_eval_shows_the_curves_of_the_run_that_trained_the_policy(evaluated: Path) -> None:
    page = page_of(evaluated)
    assert "From run small-001, a point each time the dev queries were looked at." in page.texts
    assert {"dev nDCG@10", "dev return", "train return", "entropy", "terminate"} <= set(page.texts)


def test_without_the_run_the_page_says_so(evaluated: Path, trained: tuple[Shell, Outcome]) -> None:
    shell = Shell(evaluated.parent, trained[0].cache)
    (shell.folder / "elsewhere").mkdir()
    shutil.copy(shell.folder / "checkpoints" / "policy_final.pt", shell.folder / "elsewhere" / "mine.pt")
    shell.eval("--checkpoint", "elsewhere/mine.pt", "--num-queries", 3, "--output-dir", "three").ok  # noqa: B018
    page = page_of(shell.folder / "three")
    assert any("was not found" in text for text in page.texts)
    assert len(page.data["queries"]) == 3


def test_pictures_lie_beside_the_page(evaluated: Path, tmp_path: Path) -> None:
    for name in ("quality_cost.png", "difficulty.png"):
        with Image.open(evaluated / name) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20, "something is drawn"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_pictures(tmp_path / "file", case.table(case.graph()))


def test_hostile_texts_stay_texts(hostile: str) -> None:
    page = Page(hostile)
    assert not page.names() & {"img", "iframe", "object", "embed", "b", "base", "link"}
    for name, attributes in page.elements:
        assert not [a for a in attributes if a.startswith("on") or a == "style"], name
    assert case.HOSTILE[0] in page.texts, "the title, as it is"
    assert len(page.raw["script"]) == 2
    data = page.data
    assert [query["text"] for query in data["queries"]] == case.TEXTS
    shown = {tuple(document) for document in data["documents"]}
    assert ("d1", case.HOSTILE[0], first_words(case.HOSTILE[1])) in shown
    rewritten = [step["text"] for query in data["queries"] for step in query["steps"] if "text" in step]
    assert all(any(text.endswith(hostile) for text in rewritten) for hostile in case.HOSTILE[1:3])


def test_the_page_names_nothing_outside_itself(hostile: str) -> None:
    page = Page(hostile)
    for name, attributes in page.elements:
        assert not {"src", "srcset", "action", "data", "poster"} & set(attributes), name
        assert (attributes.get("href") or "#").startswith("#")
    assert "url(" not in page.raw["style"][0]
    assert "@import" not in page.raw["style"][0]
    assert not re.search(r"https?:|fetch|XMLHttp|innerHTML|eval|import\b", page.raw["script"][-1])


def test_the_policy_allows_the_page_s_own_style_and_script_alone(hostile: str) -> None:
    page = Page(hostile)
    (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
    assert rules["default-src"] == "'none'"
    for name, text in (("style-src", page.raw["style"][0]), ("script-src", page.raw["script"][-1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"


def test_the_same_inputs_give_the_same_bytes(hostile: str, tmp_path: Path) -> None:
    assert case.write(tmp_path).read_text(encoding="utf-8") == hostile


def test_a_thousand_queries_stay_small_and_texts_are_stored_once(tmp_path: Path) -> None:
    path = case.write(tmp_path, 1_000)
    assert path.stat().st_size < 2_500_000
    data = Page(path.read_text(encoding="utf-8")).data
    assert len(data["queries"]) == 1_000
    assert len(data["documents"]) == 5
    assert all(len(step.get("ranking", [])) <= 10 for query in data["queries"] for step in query["steps"])


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        case.write(tmp_path / "file")


def test_one_query_without_judgments_still_makes_a_page(tmp_path: Path) -> None:
    made = case.graph(1)
    made = replace(made, gains={"reward": made.gains["qrels"]})
    judged = case.table(case.graph(1))
    alike = [replace(m, metrics={"reward nDCG@10": m.metrics["nDCG@10"]}) for m in judged.methods]
    table = ComparisonTable.build(alike, measure="reward nDCG@10")
    queries = QuerySet(["q0"], ["x"])
    page = Page(
        write_report(tmp_path, table, made, queries, case.corpus(), title="t", facts={}).read_text(encoding="utf-8")
    )
    assert page.data["judged"] is False
    assert page.data["queries"][0]["grades"] == {}
    assert cells(page, "Quality")["rl_agent"][1] == "[-, -]"


def test_headroom_captured_is_a_share_of_what_there_is() -> None:
    table = case.table(case.graph())
    by_name = {method.name: headroom_captured(table, method) for method in table.methods}
    assert by_name["single_pass"] == 0.0
    assert by_name["oracle"] == pytest.approx(1.0)
    same = ComparisonTable.build([table.methods[0], replace(table.methods[0], name="oracle")])
    assert np.isnan(headroom_captured(same, same.methods[0]))


@given(st.lists(st.integers(0, 13), min_size=1, max_size=40))
def test_every_episode_is_counted_along_its_whole_path(nodes: list[int]) -> None:
    tree = build_tree(5)
    ends = np.array(nodes)
    actions = [[*map(int, tree.actions_to(node)), 3] for node in nodes]
    assert end_states(tree, actions).tolist() == nodes
    counts = visits(tree, ends)
    assert counts.tolist() == [sum(state in tree.path(node) for node in nodes) for state in range(len(tree))]


@given(st.text(st.characters(), max_size=60))
def test_no_text_is_ever_markup(text: str) -> None:
    values = {"caption": text, "header": [text], "rows": [[text]], "drawing": None, "script": ""}
    page = Page(render("sweep.html.j2", title=text, **values))
    names = "html head meta title style body main h1 section h2 div table caption thead tbody tr th td p"
    assert page.names() <= set(names.split())
    (rows,) = page.tables.values()
    assert rows == [[text], [text]]
    embedded = embedded_json({"x": text})
    assert json.loads(embedded) == {"x": text}
    assert embedded.isascii()
    assert not set("<>&") & set(embedded)


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        embedded_json(float("nan"))


NAN = float("nan")
DRAWINGS = {
    "one point without an interval": lambda: charts.intervals([Point("m", 0.5, NAN, NAN, {})], "nDCG@10"),
    "the same quality everywhere": lambda: charts.quality_cost(
        [Point(f"m{i}", 0.5, 0.5, 0.5, {"searches": 0.0}) for i in range(20)], ["searches"], "$x_1$ & <b>"
    ),
    "an empty bin": lambda: charts.difficulty(case.table(case.graph()).difficulty, "nDCG@10"),
    "curves": lambda: charts.lines({"a": [(64.0, 0.1), (128.0, NAN)], "b": [(64.0, NAN)], "c": []}, "episode", "y"),
    "one long path": lambda: charts.action_tree(build_tree(5), np.array([13, 13]), np.array([0.5, 0.1])),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_takes_the_pages_colours_and_is_the_same_every_time(name: str) -> None:
    drawing = charts.svg(DRAWINGS[name](), name)
    page = Page(drawing)
    assert page.elements[0][1]["role"] == "img"
    assert page.texts[0] == name
    for element, attributes in page.elements:
        assert "style" not in attributes, "the page's policy would forbid it"
        colours = {attributes.get(key) for key in ("fill", "stroke")} - {None, "none"}
        assert all(str(colour).startswith("var(--") for colour in colours), (element, colours)
        assert "nan" not in " ".join(map(str, attributes.values())).lower()
    assert charts.svg(DRAWINGS[name](), name) == drawing


def test_every_colour_of_a_drawing_is_one_of_the_page_in_both_schemes(hostile: str) -> None:
    style = Page(hostile).raw["style"][0]
    for colour, variable in charts.VARIABLES.items():
        assert style.count(f"--{variable}:") == 2, variable
        assert f"--{variable}: {colour};" in style


def test_names_are_drawn_as_they_are() -> None:
    texts = Page(charts.svg(DRAWINGS["the same quality everywhere"](), "t")).texts
    assert {"$x_1$ & <b>", "m0", "m19"} <= set(texts)


def test_a_sweep_is_a_row_and_a_dot_a_value(tmp_path: Path) -> None:
    facts = {"queries": 40, "split": "dev", "dataset": "small"}
    costs = {"LM calls": 0.0, "steps": 3.0}
    rows = [SweepRow(str(i), f"lr={i}", {"nDCG@10": 0.5 + i / 10, "searches": 1.0 + i, **costs}) for i in range(3)]
    page = Page(write_sweep_page(tmp_path, SweepTable("lr", rows), facts).read_text(encoding="utf-8"))
    (table,) = page.tables.values()
    assert table[1] == ["0", "0.5000", "1.00", "0.00", "3.00"]
    assert {"lr on small", "lr 2", "searches per query"} <= set(page.texts)
    assert page.raw["script"] == []
    alike = SweepTable("lr", [replace(row, columns={**row.columns, "searches": 2.0}) for row in rows])
    page = Page(write_sweep_page(tmp_path, alike, facts).read_text(encoding="utf-8"))
    assert "All values cost the same." in page.texts


def test_first_words_are_few_and_short() -> None:
    assert first_words("one\n two") == "one two"
    assert first_words("word " * 30).count("word") == 20
    assert len(first_words("x" * 10_000)) == 200


def test_the_run_is_known_by_what_it_wrote(tmp_path: Path) -> None:
    for name, content in (("one", b"1"), ("two", b"2")):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / "p.pt").write_bytes(content)
        (tmp_path / name / "metrics.jsonl").write_text("")
    copy = tmp_path / "p.pt"
    for content, expected in ((b"2", "two"), (b"3", None)):
        copy.write_bytes(content)
        run = find_run(copy, tmp_path)
        assert (run.path.name if run else None) == expected
    own = find_run(tmp_path / "one" / "checkpoints" / "p.pt", tmp_path / "nowhere")
    assert own is not None
    assert own.path.name == "one"


def test_curves_end_where_a_kill_cut_them_off(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "p.pt").write_bytes(b"1")
    lines = ['{"episode": 64, "entropy": 1.0, "actions": {"narrow": 0.5}, "time": {"x": 1}, "note": "text"}']
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"episode": 128, "entr']))
    run = find_run(tmp_path / "checkpoints" / "p.pt", tmp_path)
    assert run is not None
    assert read_curves(run) == Curves(tmp_path.name, {"entropy": [(64.0, 1.0)], "actions.narrow": [(64.0, 0.5)]})
