"""The commands as a user meets them: what they print, what they leave, what they never touch, and that they repeat."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch

from searchrl import __version__
from searchrl.agent.checkpoint import load_policy
from searchrl.agent.run_dir import settings_of
from searchrl.cli.benchmark import BenchmarkConfig
from searchrl.cli.evaluate import EvalConfig
from searchrl.cli.generate_queries import GenerateConfig
from searchrl.command import parse
from searchrl.config import TrainConfig
from searchrl.config_file import from_json, read_config
from searchrl.data.beir import write_beir_folder
from searchrl.data.dataset import Corpus, Dataset
from searchrl.data.trec import read_trec_run
from tests.command import REPOSITORY, Outcome, Shell, assert_same_weights, files, metrics

METHODS = "dense hybrid bm25 single_pass heuristic random best_fixed rl_agent oracle".split()
POLICIES = {"policy_600.pt", "policy_1200.pt", "policy_best.pt", "policy_final.pt"}
"""Of 1280 episodes in batches of 64, a numbered one each time that 600 more are over."""


@pytest.fixture(scope="module")
def place(trained: tuple[Shell, Outcome], tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A copy of the folder in which ``train.py`` ran, to evaluate in."""
    copy = shutil.copytree(trained[0].folder, tmp_path_factory.mktemp("place") / "copy")
    return Shell(copy, trained[0].cache)


@pytest.fixture(scope="module")
def evaluated(place: Shell) -> tuple[Path, Outcome]:
    """``eval.py`` without any flag: the folder it wrote, and how it ended."""
    outcome = place.eval().ok
    return place.folder / "runs" / "eval-small-test-001", outcome


@pytest.fixture(scope="module")
def other_folder(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another collection: half the documents, the test queries alone."""
    full = small_dataset.corpus
    corpus = Corpus(full.ids[::2], full.titles[::2], [text[:150] for text in full.texts[::2]])
    test = small_dataset.splits["test"]
    qrels = {q: {d: g for d, g in test.qrels[q].items() if d in corpus.position} for q in test.ids}
    ids = [q for q in test.ids if any(qrels[q].values())]
    texts = [text for q, text in zip(test.ids, test.texts, strict=True) if q in ids]
    assert len(ids) > 5
    queries = replace(test, ids=ids, texts=texts, qrels={q: qrels[q] for q in ids})
    folder = tmp_path_factory.mktemp("other") / "other"
    write_beir_folder(Dataset("other", corpus, {"test": queries}), folder)
    return folder


def table_rows(text: str) -> dict[str, list[str]]:
    """The cells of the comparison table by method."""
    lines = iter(text.splitlines())
    next(line for line in lines if line.startswith("method ") and "MRR@10" in line)
    next(lines)
    rows: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("A0 search"):
            return rows
        name, *cells = line.split()
        rows[name] = cells
    raise AssertionError("the table has no legend")


def test_train_says_what_it_does_in_order(trained: tuple[Shell, Outcome]) -> None:
    out = trained[1].out
    wanted = [
        r"^device: cpu \(cpu was asked for; \w+, because .+\)$",
        r"^dataset: small, \d+ documents; queries: 12 train, 12 dev, 12 test$",
        r"^run: runs/small-001$",
        r"^judge: human judgments pay the reward",
        r"^headroom \(nDCG@10\) +single_pass +heuristic +best_fixed +oracle",
        r"^train, by human judgments( +[01]\.\d{4}){5}  .*SEARCH",
        r"^dev, by human judgments( +[01]\.\d{4}){5}  .*SEARCH",
        r"^episode \d+: dev return [\d.]+, nDCG@10 [\d.]+ \(best so far\)$",
        r"^dev queries:$",
        r"^method +nDCG@10 +Recall@100 +MRR@10 +avg steps +searches +LM calls +A0 +A1 +A2 +A3$",
        r"^checkpoints: checkpoints/policy_final.pt",
    ]
    at = 0
    for pattern in wanted:
        match = re.compile(pattern, re.MULTILINE).search(out, at)
        assert match, f"{pattern} not in what follows:\n{out[at:]}"
        at = match.end()
    assert list(table_rows(out)) == METHODS
    warned = [line for line in trained[1].err.splitlines() if "warning" in line.lower()]
    assert [line for line in warned if "may have collapsed" not in line] == [], "of so few queries that may be true"


def test_headroom_and_table_agree(trained: tuple[Shell, Outcome]) -> None:
    out = trained[1].out
    rows = table_rows(out)
    dev = next(line for line in out.splitlines() if line.startswith("dev, by human")).split()[4:8]
    means = [float(rows[name][0]) for name in ("single_pass", "heuristic", "best_fixed", "oracle")]
    assert [float(mean) for mean in dev] == pytest.approx(means, abs=1.1e-4), "one digit of rounding"
    assert rows["dense"][:3] == rows["single_pass"][:3], "the retriever of this run is dense"
    assert float(rows["oracle"][0]) >= max(float(rows[name][0]) for name in METHODS[3:])


def test_what_a_run_leaves(trained: tuple[Shell, Outcome], flags: list[str]) -> None:
    folder = trained[0].folder
    run = folder / "runs" / "small-001"
    names = {path.name for path in run.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert names - events == {"config.json", "metrics.jsonl", "versions.json", "state.pt", "checkpoints"}
    assert {path.name for path in (run / "checkpoints").iterdir()} == POLICIES
    settings = json.loads((run / "config.json").read_text())
    assert settings["learning"]["episodes"] == 1280
    assert settings["data"]["dataset"] == flags[1]
    versions = json.loads((run / "versions.json").read_text())
    assert versions["python"] == sys.version.split()[0]
    assert versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert [line["episode"] for line in metrics(run)] == [256, 512, 768, 1024, 1280]
    first = metrics(run)[0]
    assert set(first["actions"]) == {"search", "narrow", "broaden", "terminate"}
    assert sum(first["actions"].values()) == pytest.approx(1.0)
    published = {path.name for path in (folder / "checkpoints").iterdir()}
    assert published == POLICIES | {"published.json"}
    for name in POLICIES:
        assert (folder / "checkpoints" / name).read_bytes() == (run / "checkpoints" / name).read_bytes()
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def test_curves_for_tensorboard(trained: tuple[Shell, Outcome]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(trained[0].folder / "runs" / "small-001")).Reload()
    wanted = {"train/return", "train/entropy", "losses/policy_loss", "losses/value_loss"}
    wanted |= {"dev/return", "dev/nDCG@10", "charts/episodes_per_second"}
    wanted |= {f"actions/{action}" for action in ("search", "narrow", "broaden", "terminate")}
    assert wanted <= set(curves.Tags()["scalars"])
    assert [point.step for point in curves.Scalars("dev/nDCG@10")] == [256, 512, 768, 1024, 1280]
    assert len(curves.Scalars("train/return")) == 20


def test_a_checkpoint_says_what_it_is(trained: tuple[Shell, Outcome]) -> None:
    folder = trained[0].folder / "checkpoints"
    final, best = load_policy(folder / "policy_final.pt"), load_policy(folder / "policy_best.pt")
    assert (final.dataset, final.episode, final.version) == ("small", 1280, __version__)
    assert load_policy(folder / "policy_600.pt").episode == 640, "the first update that reaches it"
    assert final.best_fixed[0] == 0, "every sequence begins with SEARCH"
    assert best.dev_score == max(line["dev_return"] for line in metrics(trained[0].folder / "runs" / "small-001"))
    settings = from_json(TrainConfig, final.config, "checkpoint")
    assert settings.learning.episodes == 1280


def test_the_same_command_twice(shell: Shell, flags: list[str], trained: tuple[Shell, Outcome]) -> None:
    """Just works, gives the same numbers, and leaves the first run as it was."""
    first, _ = trained
    folder = first.folder / "runs" / "small-001"
    for name in ("runs", "checkpoints"):  # as if the first run had been made here
        shutil.copytree(first.folder / name, shell.folder / name)
    again = shell.train(*flags).ok
    assert "run: runs/small-002" in again.out
    assert again.out.replace("small-002", "small-001") == trained[1].out
    assert files(shell.folder / "runs" / "small-001") == files(folder)
    assert metrics(shell.folder / "runs" / "small-002") == metrics(folder)
    for name in POLICIES:
        assert_same_weights(shell.folder / "runs" / "small-002" / "checkpoints" / name, folder / "checkpoints" / name)


def test_another_seed_is_another_run(shell: Shell, flags: list[str], trained: tuple[Shell, Outcome]) -> None:
    shell.train(*flags, "--seed", 7).ok  # noqa: B018
    with pytest.raises(AssertionError):
        assert_same_weights(*(s.folder / "checkpoints" / "policy_final.pt" for s in (shell, trained[0])))


def test_checkpoints_holds_the_newest_run_and_nothing_of_the_one_before(shell: Shell, flags: list[str]) -> None:
    short = [*flags, "--episodes", "128", "--eval-every", "64"]
    shell.train(*short, "--checkpoint-every", "64").ok  # noqa: B018
    shell.train(*short, "--checkpoint-every", "1000", "--seed", "1").ok  # noqa: B018
    folder = shell.folder / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"policy_best.pt", "policy_final.pt", "published.json"}
    newest = shell.folder / "runs" / "small-002" / "checkpoints" / "policy_final.pt"
    assert (folder / "policy_final.pt").read_bytes() == newest.read_bytes()


def test_a_file_that_no_run_put_into_checkpoints_is_never_replaced(shell: Shell, flags: list[str]) -> None:
    folder = shell.folder / "checkpoints"
    folder.mkdir()
    (folder / "policy_mine.pt").write_text("mine")
    short = [*flags, "--episodes", "64"]
    shell.train(*short).ok  # noqa: B018
    assert (folder / "policy_mine.pt").read_text() == "mine", "a name of its own is in nobody's way"
    (folder / "published.json").unlink()
    before = files(folder)
    error = shell.train(*short).error
    assert "checkpoints/policy_best.pt" in error
    assert "--checkpoint-dir" in error
    assert files(folder) == before
    assert [path.name for path in (shell.folder / "runs").iterdir()] == ["small-001"], "said before the work, not after"
    shell.train(*short, "--checkpoint-dir", "elsewhere").ok  # noqa: B018
    assert (shell.folder / "elsewhere" / "policy_final.pt").exists()


def test_a_name_that_is_taken(shell: Shell, flags: list[str]) -> None:
    short = [*flags, "--episodes", "64", "--run-name", "mine"]
    assert "run: runs/mine" in shell.train(*short).ok.out
    (shell.folder / "runs" / "mine" / "notes.txt").write_text("precious")
    before = files(shell.folder / "runs")
    error = shell.train(*short).error
    assert all(word in error for word in ("runs/mine", "--overwrite", "--resume", "--run-name"))
    assert files(shell.folder / "runs") == before
    shell.train(*short, "--seed", "5", "--overwrite").ok  # noqa: B018
    assert json.loads((shell.folder / "runs" / "mine" / "config.json").read_text())["learning"]["seed"] == 5
    assert not (shell.folder / "runs" / "mine" / "notes.txt").exists()


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/tmp"])
def test_overwrite_removes_nothing_outside_the_runs(shell: Shell, flags: list[str], name: str) -> None:
    (shell.folder / "mine.txt").write_text("precious")
    assert "plain folder name" in shell.train(*flags, "--run-name", name, "--overwrite").error
    assert (shell.folder / "mine.txt").exists()


def test_overwrite_removes_only_runs(shell: Shell, flags: list[str]) -> None:
    (shell.folder / "work" / "thesis").mkdir(parents=True)
    (shell.folder / "work" / "notes.txt").touch()
    for name in ("thesis", "notes.txt"):
        error = shell.train(*flags, "--runs-dir", "work", "--run-name", name, "--overwrite").error
        assert f"work/{name} exists and is not a run's folder" in error
        assert (shell.folder / "work" / name).exists()


def test_config_of_a_run_repeats_it_and_a_flag_beside_it_wins(
    shell: Shell, flags: list[str], trained: tuple[Shell, Outcome]
) -> None:
    written = trained[0].folder / "runs" / "small-001" / "config.json"
    shell.train("--config", written).ok  # noqa: B018
    run = shell.folder / "runs" / "small-001"
    assert_same_weights(*(s.folder / "checkpoints" / "policy_final.pt" for s in (shell, trained[0])))
    assert metrics(run) == metrics(trained[0].folder / "runs" / "small-001")
    shell.train(f"--config={written}", "--episodes", "64", "--mask").ok  # noqa: B018
    first, second = (read_config(run.with_name(name) / "config.json") for name in ("small-001", "small-002"))
    assert second.learning.episodes == 64
    shorter = replace(first, learning=replace(first.learning, episodes=64))
    assert settings_of(second) == settings_of(shorter)


def test_config_of_a_run_never_replaces_that_run(shell: Shell, flags: list[str]) -> None:
    """The name and the --overwrite of then were meant for then."""
    short = [*flags, "--episodes", "64", "--run-name", "mine"]
    shell.train(*short, "--overwrite").ok  # noqa: B018
    before = files(shell.folder / "runs" / "mine")
    assert "run: runs/small-001" in shell.train("--config", "runs/mine/config.json").ok.out
    assert files(shell.folder / "runs" / "mine") == before


def test_settings_that_are_right_only_together_can_be_read_back(shell: Shell, flags: list[str]) -> None:
    shell.train(*flags, "--batch-size", "10", "--rollouts", "5", "--episodes", "20").ok  # noqa: B018
    shell.train("--config", "runs/small-001/config.json").ok  # noqa: B018
    shell.eval().ok  # noqa: B018


def test_without_the_mask(shell: Shell, flags: list[str]) -> None:
    settings = "--no-mask --estimator reinforce --policy mlp --baseline value --episodes 256".split()
    shell.train(*flags, *settings).ok  # noqa: B018
    assert list(table_rows(shell.eval().ok.out)) == METHODS


def test_eval_prints_table_difficulty_and_tests(evaluated: tuple[Path, Outcome]) -> None:
    out = evaluated[1].out
    assert "policy: checkpoints/policy_final.pt, trained on small, episode 1280" in out
    assert "12 test queries:" in out
    rows = table_rows(out)
    assert list(rows) == METHODS
    assert float(rows["oracle"][0]) >= float(rows["rl_agent"][0])
    difficulty = out[out.index("by difficulty") :]
    assert re.search(r"^method +hard = 0 +medium < .5 +easy < 1 +perfect = 1$", difficulty, re.MULTILINE)
    tests = out[out.index("Paired tests") :]
    assert re.search(r"^rl_agent +single_pass +[+-]0\.\d{4} .*\d+/\d+/\d+$", tests, re.MULTILINE)
    assert re.search(r"^rl_agent +best_fixed +[+-]0\.\d{4} .*\d+/\d+/\d+$", tests, re.MULTILINE)


def test_eval_writes_rankings_and_every_query(evaluated: tuple[Path, Outcome], small_dataset: Dataset) -> None:
    import pytrec_eval

    folder, outcome = evaluated
    test = small_dataset.splits["test"]
    wanted = {f"{name}.run" for name in METHODS} | {"per_query.jsonl", "results.json"}
    wanted |= {"report.html", "quality_cost.png", "difficulty.png"}
    assert {path.name for path in folder.iterdir()} == wanted
    rows = table_rows(outcome.out)
    judge = pytrec_eval.RelevanceEvaluator({q: dict(test.qrels[q]) for q in test.ids}, {"ndcg_cut.10"})
    for name in METHODS:
        trec_run = read_trec_run(folder / f"{name}.run")
        assert trec_run.tag == name
        assert list(trec_run.rankings) == list(test.ids)
        scored = judge.evaluate(trec_run.untied())
        mean = sum(values["ndcg_cut_10"] for values in scored.values()) / len(test)
        assert f"{mean:.4f}" == rows[name][0], "the file gives the table's number"
    records = [json.loads(line) for line in (folder / "per_query.jsonl").read_text().splitlines()]
    assert [record["query_id"] for record in records] == list(test.ids)
    assert set(records[0]["methods"]) == set(METHODS)
    details = json.loads((folder / "results.json").read_text())["details"]
    assert details["trained_on"] == "small"
    assert details["split"] == "test"


def test_eval_twice_gives_the_same_bytes(place: Shell, evaluated: tuple[Path, Outcome]) -> None:
    first, said = evaluated
    again = place.eval().ok.out
    assert again.replace("eval-small-test-002", "eval-small-test-001") == said.out
    assert files(first.with_name("eval-small-test-002")) == files(first)


def test_earlier_results_are_replaced_only_when_asked(place: Shell, evaluated: tuple[Path, Outcome]) -> None:
    before = files(evaluated[0])
    error = place.eval("--output-dir", evaluated[0], "--num-queries", "3").error
    assert "--overwrite" in error
    assert files(evaluated[0]) == before
    assert place.eval("--output-dir", evaluated[0], "--overwrite").ok
    assert files(evaluated[0]) == before


def test_eval_on_fewer_queries_and_on_another_split(place: Shell, trained: tuple[Shell, Outcome]) -> None:
    assert "5 test queries:" in place.eval("--num-queries", "5", "--output-dir", "five").ok.out
    assert len((place.folder / "five" / "per_query.jsonl").read_text().splitlines()) == 5
    dev = place.eval("--split", "dev", "--num-queries", "0").ok
    assert "12 dev queries:" in dev.out
    assert "results: runs/eval-small-dev-001" in dev.out
    rows, seen_in_training = table_rows(dev.out), table_rows(trained[1].out)
    for name in METHODS:
        assert rows[name] == seen_in_training[name], "training ended with the same table"


def test_transfer_to_another_dataset(place: Shell, other_folder: Path) -> None:
    best = ["--dataset", other_folder, "--checkpoint", "runs/small-001/checkpoints/policy_best.pt"]
    outcome = place.eval(*best).ok
    assert "policy: runs/small-001/checkpoints/policy_best.pt, trained on small" in outcome.out
    assert "dataset: other," in outcome.out
    assert list(table_rows(outcome.out)) == METHODS
    results = place.folder / "runs" / "eval-other-test-001"
    assert json.loads((results / "results.json").read_text())["details"]["trained_on"] == "small"
    found = {d for ranking in read_trec_run(results / "rl_agent.run").rankings.values() for d, _ in ranking}
    corpus = {json.loads(line)["_id"] for line in (other_folder / "corpus.jsonl").read_text().splitlines()}
    assert found <= corpus
    place.eval(*best, "--no-cache", "--output-dir", "elsewhere").ok  # noqa: B018
    assert files(place.folder / "elsewhere") == files(results), "the cache changes no number"


HEAVY = ("torch", "transformers", "sentence_transformers", "gymnasium", "numpy", "scipy", "beir", "tensorboard")
SPY = "import atexit, sys; atexit.register(lambda: print('loaded:', *sys.modules, file=sys.stderr)); "


COMMANDS = {
    "train": TrainConfig,
    "eval": EvalConfig,
    "benchmark": BenchmarkConfig,
    "generate_queries": GenerateConfig,
}


@pytest.mark.parametrize(("command", "settings"), COMMANDS.items(), ids=list(COMMANDS))
def test_help_explains_every_flag_and_loads_nothing_heavy(command: str, settings: type[Any], tmp_path: Path) -> None:
    script = str(REPOSITORY / f"{command}.py")
    code = f"{SPY}import runpy; sys.argv = [{script!r}, '--help']; runpy.run_path({script!r}, run_name='__main__')"
    environment = os.environ | {"COLUMNS": "80", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stderr[done.stderr.index("loaded:") :].split()
    assert "tyro" in loaded
    assert not set(HEAVY) & set(loaded)
    said = " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.stdout).split())
    for name, explanation in explained_flags(settings):
        assert re.search(rf"--{name}[ ,]", said), name
        assert explanation in said, name
    assert not list(tmp_path.iterdir())


def explained_flags(settings: type[Any]) -> list[tuple[str, str]]:
    """Flag and docstring of every setting, the nested ones included, from the source itself."""
    classes = {
        node.name: node for node in ast.parse(Path(inspect.getfile(settings)).read_text()).body if _is_class(node)
    }
    found: list[tuple[str, str]] = []
    hints = get_type_hints(settings)
    for field in fields(settings):
        if is_dataclass(hints[field.name]):
            found += explained_flags(hints[field.name])
            continue
        body = classes[settings.__name__].body
        at = next(i for i, n in enumerate(body) if isinstance(n, ast.AnnAssign) and n.target.id == field.name)
        after = body[at + 1]
        assert isinstance(after, ast.Expr), f"{field.name} is not explained"
        found.append((field.name.replace("_", "-"), " ".join(str(after.value.value).split())))
    return found


def _is_class(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef)


def test_flags_of_other_names() -> None:
    """The names that the reference gives to settings, whose own names stay what help and files use."""
    given = "--entropy-coef 0.1 --log-dir logs --reward-gpu 0 --reformulator-gpu 1 --checkpoint-every 1000"
    config = parse(TrainConfig, given.split(), "train.py")
    assert (config.learning.entropy, config.output.runs_dir) == (0.1, Path("logs"))
    assert (config.models.reward_device, config.models.reformulator_device) == ("0", "1")
    assert parse(TrainConfig, ["--entropy", "0.1", "--runs-dir", "logs"], "train.py").learning.entropy == 0.1
