"""``searchrl tune`` from a folder of files to a report, and what searches and serves its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from searchrl import cli
from searchrl.cli.serve import as_tuned
from searchrl.command import parse
from searchrl.data.dataset import Dataset
from searchrl.data.query_bank import BankHeader, BankQuery, QueryBank, write_query_bank
from searchrl.errors import DataError
from searchrl.experiment.evaluate import read_policy
from searchrl.experiment.passages import document_of, read_documents
from searchrl.experiment.tune import split
from searchrl.fitting import writing
from searchrl.fitting.documents import read_documents as read_table
from searchrl.fitting.settings import MakeQueryRecsConfig
from searchrl.service import ServerConfig
from searchrl.service.app import create_app, make_service
from tests.command import Outcome, Shell
from tests.small_models import small_causal_lm

COMMAND = "tune --queries 18 --episodes 640 --device cpu".split()


@pytest.fixture(scope="module")
def files(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real texts as Markdown, and some files that cannot be read."""
    folder = tmp_path_factory.mktemp("files") / "my notes"
    folder.mkdir()
    corpus = small_dataset.corpus
    for i in range(26):
        text = f"# {corpus.titles[i]}\n\n{corpus.texts[i][:200]}"
        (folder / f"note {i}.md").write_text(text, encoding="utf-8")
    (folder / "binary.txt").write_bytes(b"\x00\x01\x02")
    (folder / "latin.txt").write_bytes("naïve".encode("latin-1"))
    (folder / "empty.md").write_text("", encoding="utf-8")
    return folder


def _written_before(files: Path, output: Path) -> None:
    """Put queries where the command keeps them: having a language model write takes longer than all the rest."""
    corpus = read_documents(str(files), 2000).corpus
    queries = [
        BankQuery(f"{i}-{start}", " ".join(text.split()[start : start + 6]), "single", [corpus.ids[i]])
        for i, text in enumerate(corpus.texts)
        for start in (0,)
    ]
    settings = {"num_single": 12, "num_multi": 3, "num_adversarial": 3}
    header = BankHeader("by hand", "none", corpus.fingerprint, 42, settings=settings)
    write_query_bank(output / "queries.jsonl", QueryBank(header, queries))


@pytest.fixture(scope="module")
def tuned(files: Path, command_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Path, Outcome]:
    shell = Shell(tmp_path_factory.mktemp("tuned"), command_cache)
    output = shell.folder / "out"
    _written_before(files, output)
    return shell, output, shell._run(cli.main, [*COMMAND, str(files), "--output", str(output)]).ok


def test_a_folder_becomes_a_report_with_a_recommendation(tuned: tuple[Shell, Path, Outcome]) -> None:
    _, output, outcome = tuned
    assert "documents: 26; 3 left out" in outcome.out
    first = outcome.out.index("plain searches, 26 generated queries:\nmethod  nDCG@10  Recall@100")
    assert first < outcome.out.index("headroom (nDCG@10)")
    report = (output / "report.md").read_text(encoding="utf-8")
    recommendation = json.loads((output / "tune.json").read_text(encoding="utf-8"))["recommendation"]
    assert recommendation.startswith("Use ")
    assert recommendation in report
    assert recommendation in outcome.out
    for word in (
        "oracle",
        "bm25",
        "hybrid",
        "best_fixed",
        "rl_agent",
        "latin.txt: not UTF-8",
        f"searchrl serve {output}",
    ):
        assert word in report
    assert (output / "results" / "report.html").is_file()


def test_a_fitted_model_judges_and_is_found_again(
    tmp_path: Path, command_cache: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stands_in(config: MakeQueryRecsConfig, say: object) -> None:
        """Random weights write no questions."""
        written = read_table(config.documents.input_csv)
        texts = [" ".join(written.full_text(i).split()[:6]) for i in range(len(written))]
        recs = [{"query": f"{text}?", "df_id": i, "query-type": "questions"} for i, text in enumerate(texts)]
        config.output.write_text(json.dumps(recs), encoding="utf-8")

    monkeypatch.setattr(writing, "make_query_recs", stands_in)
    shell, lm = Shell(tmp_path, command_cache), small_causal_lm(tmp_path / "lm")
    _written_before(files, shell.folder / "out")
    flags = [str(files), "--output", "out", "--lm", str(lm), "--fit"]
    shell._run(cli.main, [*COMMAND, *flags]).ok  # noqa: B018
    policy = read_policy(str(shell.folder / "out" / "policy.pt"))
    assert policy.trained.models.lm == str((shell.folder / "out" / "fitting" / "model" / "merged").resolve())
    shell.folder.joinpath("elsewhere").mkdir()
    question = ["search", str(shell.folder / "out"), "read a file", "--device", "cpu"]
    Shell(shell.folder / "elsewhere", command_cache)._run(cli.main, question).ok  # noqa: B018


def test_the_parts_of_the_queries_are_of_a_size_to_choose_and_to_report_by() -> None:
    queries = [BankQuery(f"{i}", f"query {i}", "single", [f"document {i // 2}"]) for i in range(300)]
    for seed in range(5):
        parts = split(QueryBank(BankHeader("by hand", "none", "", seed), queries), seed)
        assert sum(len(part) for part in parts.values()) == 300
        assert len(parts["train"]) > 150
        assert len(parts["dev"]) > 20
        assert len(parts["test"]) > 30
        begun = [{int(query) // 2 for query in part.ids} for part in parts.values()]
        assert sum(map(len, begun)) == len(set().union(*begun))


def test_again_is_the_same_from_what_was_kept(tuned: tuple[Shell, Path, Outcome], files: Path) -> None:
    shell, output, _ = tuned
    report = (output / "report.md").read_bytes()
    shell._run(cli.main, [*COMMAND, str(files), "--output", str(output)]).ok  # noqa: B018
    assert (output / "report.md").read_bytes() == report


def test_search_and_service_take_the_folder(tuned: tuple[Shell, Path, Outcome]) -> None:
    shell, output, _ = tuned
    title = json.loads((output / "collection" / "corpus.jsonl").read_text(encoding="utf-8").splitlines()[0])["title"]
    answer = shell._run(cli.main, ["search", str(output), title, "--device", "cpu", "--json"]).ok
    assert title in {key["title"] for key in json.loads(answer.out)["keys"]}
    config = parse(ServerConfig, as_tuned([str(output), "--device", "cpu"]), "searchrl serve")
    with TestClient(create_app(make_service(config), config), base_url="http://127.0.0.1") as asking:
        while asking.get("/readyz").status_code != 200:
            pass
        for payload in ({"corpus": "out", "strategy": "agent"}, {"corpus": "out"}):
            found = asking.post("/search", json={**payload, "queries": [title]}).json()["results"][0]["keys"]
            assert found[0]["key_id"].startswith("note%20")
        assert asking.post("/retrieve", json={"query": title}).status_code == 200


def test_kinds_of_files_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        "<html><head><title>Red &amp; blue</title><script>no()</script></head><body><h1>Colours</h1>"
        "<p>The <b>red</b> car.<br>And<style>p {}</style> a blue one.</body>",
        encoding="utf-8",
    )
    (tmp_path / "table.csv").write_text("id,title,text\n1,One,first row\n1,Two,second row\n", encoding="utf-8")
    (tmp_path / "lines.jsonl").write_text('{"_id": "x", "text": "third"}\n', encoding="utf-8")
    (tmp_path / "broken.jsonl").write_text("{", encoding="utf-8")
    read = read_documents(str(tmp_path), 2000)
    found = dict(zip(read.corpus.ids, zip(read.corpus.titles, read.corpus.texts, strict=True), strict=True))
    assert found["x"] == ("", "third")
    assert found["1"] == ("One", "first row")
    assert found["page.html"][0] == "Red & blue"
    assert found["page.html"][1].splitlines() == ["Colours", "The red car.", "And a blue one."]
    assert len(read.skipped) == 2
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no document"):
        read_documents(str(tmp_path / "none"), 2000)


def test_long_texts_are_cut_and_known_by_their_document(tmp_path: Path) -> None:
    pytest.importorskip("semantic_text_splitter")
    text = " ".join(f"This is sentence {i} of a long text." for i in range(200))
    (tmp_path / "long one.txt").write_text(text, encoding="utf-8")
    read = read_documents(str(tmp_path), 500)
    assert read.documents == 1
    assert len(read.corpus) > 10
    assert all(len(piece) <= 500 for piece in read.corpus.texts)
    assert {document_of(i) for i in read.corpus.ids} == {"long%20one.txt"}
    assert set(read.corpus.titles) == {"long one"}


def test_pdf_files_are_read(tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.write(tmp_path / "blank.pdf")
    (tmp_path / "good.txt").write_text("good", encoding="utf-8")
    read = read_documents(str(tmp_path), 500)
    assert read.corpus.texts == ["good"]
    assert len(read.skipped) == 2
