"""The report: that it is one sound page, says what the table says, and that no text in it becomes markup."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
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
from searchrl.errors import DataError, OutputError
from searchrl.evaluation.comparison import ComparisonTable
from searchrl.evaluation.report import sections
from searchrl.evaluation.report.charts import Point, extent, scatter, ticks
from searchrl.evaluation.report.curves import Curves, find_run, read_curves
from searchrl.evaluation.report.episodes import first_words
from searchrl.evaluation.report.markup import Markup, element, embedded_json, join
from searchrl.evaluation.report.page import write_report
from searchrl.evaluation.report.pictures import write_pictures
from searchrl.evaluation.report.tree import end_states, visits
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
        assert bins[name] == ["-" if mean is None else f"{mean:.4f}" for mean in means]


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


def test_pictures_lie_beside_the_page(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("quality_cost.png", "difficulty.png"):
        with Image.open(evaluated / name) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20, "something is drawn"
    (tmp_path / "file").write_text("in the way")
    table = case.table(case.graph())
    with pytest.raises(OutputError, match="cannot be written"):
        write_pictures(tmp_path / "file", table)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert write_pictures(tmp_path / "new", table) == []
    assert not (tmp_path / "new").exists()


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


def test_results_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    made = case.graph()
    table = case.table(made)
    facts: dict[str, Any] = {"title": "", "facts": {}}
    with pytest.raises(DataError, match="30 queries, 30 and 2 were given"):
        write_report(tmp_path / "new", table, made, case.queries().take(2), case.corpus(), **facts)
    lacking = ComparisonTable.build([m for m in table.methods if m.name != "single_pass"])
    with pytest.raises(DataError, match="needs single_pass; the results are of best_fixed"):
        write_report(tmp_path / "new", lacking, made, case.queries(), case.corpus(), **facts)
    silent = ComparisonTable.build([replace(m, actions=None) for m in table.methods])
    with pytest.raises(DataError, match="its actions are not in the results"):
        write_report(tmp_path / "new", silent, made, case.queries(), case.corpus(), **facts)
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        write_report(tmp_path / "file", table, made, case.queries(), case.corpus(), **facts)


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
    by_name = {method.name: sections.headroom_captured(table, method) for method in table.methods}
    assert by_name["single_pass"] == 0.0
    assert by_name["oracle"] == pytest.approx(1.0)
    same = ComparisonTable.build([table.methods[0], replace(table.methods[0], name="oracle")])
    assert np.isnan(sections.headroom_captured(same, same.methods[0]))


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
    page = Page(element("p", element("a", text, href=text), text, class_=text))
    assert page.names() == {"p", "a"}
    assert page.elements[1][1] == {"href": text}
    embedded = embedded_json({"x": text})
    assert json.loads(embedded) == {"x": text}
    assert embedded.isascii()
    assert not set("<>&") & set(embedded)


def test_markup_is_kept_and_left_out_where_there_is_none() -> None:
    assert element("p", None, Markup("<br>"), "<br>", hidden=True, id=None) == "<p hidden><br>&lt;br&gt;</p>"
    assert element("input", type="search") == '<input type="search">'
    assert join("a & b", None, Markup("&amp;")) == "a &amp; b&amp;"
    with pytest.raises(ValueError, match="JSON"):
        embedded_json(float("nan"))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_inside(low: float, width: float) -> None:
    high = low + width
    found = ticks(low, high)
    slack = 1e-6 * (abs(low) + width)
    assert 1 <= len(found) <= 13
    assert all(low - slack <= tick <= high + slack for tick in found)


@given(st.lists(st.floats(0, 1) | st.just(float("nan")), max_size=5))
def test_an_axis_is_never_empty(values: list[float]) -> None:
    low, high = extent(values)
    assert low < high
    assert all(low < value < high for value in values if value == value)


def test_labels_do_not_lie_upon_each_other() -> None:
    nan = float("nan")
    drawing = scatter("t", [Point(f"m{i}", 1.0, 0.5 + i * 1e-4, nan, nan) for i in range(9)], "x", "y")
    heights = sorted(float(y) for y in re.findall(r'class="s\d name" x="[\d.]+" y="([\d.]+)"', drawing))
    assert len(heights) == 9
    assert np.diff(heights).min() >= 14


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
