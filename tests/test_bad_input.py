"""A user's mistake, of whatever kind, is one line that names what is wrong and the way out, and exit code 2."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from searchrl.data.beir import write_beir_folder
from searchrl.data.dataset import Corpus, Dataset
from searchrl.models.lm_cache import cache_stats
from tests.command import Outcome, Shell, files
from tests.models.conftest import random_model


@pytest.fixture
def here(shell: Shell, small_folder: Path) -> Shell:
    """A shell whose folder has its own copy of the small collection, to be damaged."""
    shutil.copytree(small_folder, shell.folder / "small")
    return shell


def train(shell: Shell, *flags: object) -> Outcome:
    """A short training on ``small``; flags given here win over these."""
    return shell.train(
        "--dataset", "small", "--reward", "qrels", "--judge-depth", "0", "--device", "cpu", "--episodes", "64", *flags
    )


WRONG_VALUES = {
    # flags: what the line must say
    "--dataset nfcorpsu": "unknown dataset 'nfcorpsu'; did you mean 'nfcorpus'? Valid: arguana, ",
    "--dataset ./nowhere": "nowhere: no such folder",
    "--dataset small/corpus.jsonl": "small/corpus.jsonl: not a folder",
    "--judge-depth 9 --reward lm --lm smolm2-135m": "unknown language model 'smolm2-135m': did you mean 'smollm2",
    "--reformulator lm --lm ./nowhere": "there is no model folder ./nowhere: without network use smollm2-135m",
    "--encoder ./nowhere": "there is no model folder ./nowhere: without network use all-MiniLM-L6-v2",
    "--encoder small": "small is not a sentence-transformers model (no modules.json); use all-MiniLM-L6-v2",
    "--reward lm": "--reward lm with --judge-depth 0: nothing would be judged",
    "--reward head --judge-depth 10": "reward head needs reward_model",
    "--prompts nowhere.toml": "nowhere.toml",
    "--query-bank nowhere.jsonl": "nowhere.jsonl: no such file",
    "--device cuda:99": "device 'cuda:99' is not here; available: ",
    "--device gpu": "device 'gpu' is not here; available: ",
    "--episodes 0": "--episodes 0: must be at least 1",
    "--episodes -5": "--episodes -5: must be at least 1",
    "--batch-size 0": "--batch-size 0: must be at least 1",
    "--batch-size -1": "--batch-size -1: must be at least 1",
    "--estimator reinforce --batch-size 10": "--batch-size 10 is not a multiple of --rollouts 4",
    "--estimator reinforce --rollouts 1": "--rollouts 1: must be at least 2",
    "--hide levle": "--hide levle: there is no group of features 'levle'; did you mean 'level'",
    "--no-mask": "--estimator exact needs the action mask",
    "--hidden 0": "--hidden 0: must be at least 1",
    "--eval-every 0": "--eval-every 0: must be at least 1",
    "--checkpoint-every 0": "--checkpoint-every 0: must be at least 1",
    "--lr 0": "--lr 0.0: must be above 0",
    "--lr nan": "--lr nan: must be above 0",
    "--entropy -1": "--entropy -1.0: must be at least 0",
    "--seed -1": "--seed -1: must be at least 0",
    "--max-steps 1": "--max-steps 1: must be at least 2",
    "--max-steps 0": "--max-steps 0: must be at least 2",
    "--max-steps 14": "--max-steps 14: ",
    "--depth 0": "--depth 0: must be at least 10",
    "--judge-depth -1": "--judge-depth -1: must be at least 0",
    "--judge-penalty -1": "--judge-penalty -1.0: must be at least 0",
    "--anchor 1.5": "--anchor 1.5: must lie between 0.0 and 1.0",
    "--step-penalty nan": "--step-penalty nan: must be at least 0",
    "--run-name a/b": "--run-name 'a/b': must be a plain folder name",
}


@pytest.mark.parametrize("typed", WRONG_VALUES)
def test_a_wrong_value_for_training(here: Shell, typed: str) -> None:
    assert WRONG_VALUES[typed] in train(here, *typed.split()).error
    assert not (here.folder / "runs").exists(), "no run begins"


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("--num-queries -1", "--num-queries -1: must be at least 0"),
        ("--seed -1", "--seed -1: must be at least 0"),
        ("--checkpoint nowhere.pt", "nowhere.pt: no such checkpoint; train one with train.py"),
        ("--checkpoint .", ".: no such checkpoint"),
        ("--device cuda:99", "device 'cuda:99' is not here; available: "),
        ("--dataset scifcat", "unknown dataset 'scifcat'; did you mean 'scidocs' or 'scifact'? Valid: "),
    ],
)
def test_a_wrong_value_for_evaluation(trained: tuple[Shell, Outcome], typed: str, says: str) -> None:
    assert says in trained[0].eval(*typed.split()).error


@pytest.mark.parametrize("typed", ["--nope 3", "--reward qrel", "--lr fast", "--episodes 1.5", "--dataset", "extra"])
def test_flags_that_do_not_exist_or_parse(here: Shell, typed: str) -> None:
    outcome = here.train(*typed.split())
    assert outcome.code == 2
    assert typed.split()[0] in outcome.err
    assert "--help" in outcome.err
    assert not list(here.folder.glob("runs"))


def test_an_unknown_method_is_told_the_known_ones(here: Shell) -> None:
    outcome = here.train("--judge", "yes-no")
    assert outcome.code == 2
    assert all(method in outcome.err for method in ("yes_no", "graded", "likelihood"))


def test_an_unknown_encoder_names_the_offline_choice(here: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    error = train(here, "--encoder", "all-MiniLM-L6-v3").error
    assert "all-MiniLM-L6-v3" in error
    assert "all-MiniLM-L6-v2 (installed with SearchRL)" in error


def first_line(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the first record of a JSON Lines file."""
    first, *rest = path.read_text().splitlines(keepends=True)
    record = json.loads(first)
    change(record)
    path.write_text(json.dumps(record) + "\n" + "".join(rest))


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def only_unknown_documents(path: Path) -> None:
    header, *rows = path.read_text().splitlines()
    renamed = [re.sub(r"\t.*\t", f"\tgone-{i}\t", row) for i, row in enumerate(rows)]
    path.write_text("\n".join([header, *renamed]))


def one_query_only(folder: Path) -> None:
    (folder / "qrels" / "dev.tsv").unlink()
    header, first, *rest = (folder / "qrels" / "train.tsv").read_text().splitlines(keepends=True)
    query = first.split("\t")[0]
    same = [line for line in rest if line.split("\t")[0] == query]
    (folder / "qrels" / "train.tsv").write_text("".join([header, first, *same]))


BAD_DATA: dict[str, tuple[Callable[[Path], object], str]] = {
    "no corpus": (lambda f: (f / "corpus.jsonl").unlink(), "small: not a dataset in the BEIR layout; missing: corpus"),
    "no queries": (lambda f: (f / "queries.jsonl").unlink(), "missing: queries.jsonl"),
    "no qrels": (lambda f: shutil.rmtree(f / "qrels"), "missing: any of qrels/train.tsv"),
    "empty corpus": (
        lambda f: (f / "corpus.jsonl").write_text(""),
        "small/corpus.jsonl: empty; one JSON object a line",
    ),
    "empty queries": (lambda f: (f / "queries.jsonl").write_text("\n"), "small/queries.jsonl: empty"),
    "empty qrels": (lambda f: (f / "qrels" / "dev.tsv").write_text(""), "small/qrels/dev.tsv: holds no judgments"),
    "not JSON": (lambda f: append(f / "queries.jsonl", '{"_id": '), "small/queries.jsonl, line 37: not JSON"),
    "missing field": (
        lambda f: first_line(f / "corpus.jsonl", lambda r: r.pop("text")),
        "small/corpus.jsonl, line 1: the field 'text' is missing",
    ),
    "duplicate id": (
        lambda f: append(f / "corpus.jsonl", (f / "corpus.jsonl").read_text().splitlines()[2] + "\n"),
        "was used before, in line 3",
    ),
    "not a grade": (
        lambda f: append(f / "qrels" / "train.tsv", "q\td\tvery\n"),
        "the grade 'very' is not an integer",
    ),
    "only unknown documents": (
        lambda f: only_unknown_documents(f / "qrels" / "train.tsv"),
        "name documents that are not in the corpus: dropped",
    ),
    "no train split": (
        lambda f: (f / "qrels" / "train.tsv").unlink(),
        "dataset 'small' has no train queries with judgments (it has: dev, test); train on another dataset",
    ),
    "nothing to spare for dev": (one_query_only, "dataset 'small' has no dev queries with judgments (it has: train"),
}


@pytest.mark.parametrize("fault", BAD_DATA)
def test_bad_data(here: Shell, fault: str) -> None:
    damage, says = BAD_DATA[fault]
    damage(here.folder / "small")
    assert says in train(here).error
    assert not (here.folder / "runs").exists(), "no run begins"


def test_a_split_that_is_not_there(here: Shell, trained: tuple[Shell, Outcome]) -> None:
    (here.folder / "small" / "qrels" / "test.tsv").unlink()
    policy = trained[0].folder / "checkpoints" / "policy_final.pt"
    error = here.eval("--checkpoint", policy, "--dataset", "small").error
    assert "dataset 'small' has no test queries with judgments (it has: train, dev)" in error


def test_judgments_of_unknown_documents_are_dropped_counted_and_told(here: Shell) -> None:
    qrels = here.folder / "small" / "qrels" / "train.tsv"
    query = qrels.read_text().splitlines()[1].split("\t")[0]
    append(qrels, f"{query}\tnowhere.one\t2\n{query}\tnowhere.two\t1\nnobody\tnowhere.one\t1\n")
    outcome = train(here).ok
    dropped = (
        r"train: of \d+ judgments 1 name queries that do not exist and 2 name documents that are not in the corpus"
    )
    assert re.search(f"WARNING: .*small: {dropped}: dropped", outcome.err)
    assert re.search(f"note: {dropped}: dropped", outcome.out)


UNWRITABLE = {
    "--runs-dir file": "file/small-001: cannot be made (Not a directory); choose another --runs-dir",
    "--runs-dir file --run-name x": "file/x: cannot be made (Not a directory); choose another --runs-dir",
    "--runs-dir file/deep": "file/deep/small-001: cannot be made",
    "--checkpoint-dir file": "file: cannot be made (File exists); give another --checkpoint-dir",
    "--checkpoint-dir file/deep": "file/deep: cannot be made",
}


@pytest.mark.parametrize("flags", UNWRITABLE)
def test_folders_that_cannot_be_written(here: Shell, flags: str) -> None:
    (here.folder / "file").write_text("in the way")
    assert UNWRITABLE[flags] in train(here, *flags.split()).error
    assert (here.folder / "file").read_text() == "in the way"
    assert not (here.folder / "runs").exists(), "said before the work, not after"


def test_a_results_folder_that_cannot_be_written(trained: tuple[Shell, Outcome], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    error = trained[0].eval("--output-dir", tmp_path / "file").error
    assert f"{tmp_path / 'file'}: cannot be made" in error
    assert "--output-dir" in error


def test_a_cache_that_cannot_be_written(here: Shell) -> None:
    (here.folder / "file").touch()
    error = train(Shell(here.folder, here.folder / "file")).error
    assert f"the cache {here.folder / 'file'} is a file" in error
    assert "SEARCHRL_CACHE" in error


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a checkpoint says about itself."""
    content = torch.load(path, weights_only=True)
    meta = json.loads(content["meta"])
    change(meta)
    torch.save({**content, "meta": json.dumps(meta)}, path)


class Bomb:
    """What a pickle can do to whoever opens it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "truncated, or not a checkpoint"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "truncated, or not a checkpoint"),
    "text": (lambda p: p.write_text("a policy, honestly"), "truncated, or not a checkpoint"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps(Bomb(p.parent / "boom"))), "truncated, or not a checkpoint"),
    "torch pickle": (lambda p: torch.save({"meta": Bomb(p.parent / "boom")}, p), "truncated, or not a checkpoint"),
    "a tensor": (lambda p: torch.save(torch.zeros(3), p), "not a checkpoint that SearchRL wrote"),
    "somebody's model": (lambda p: torch.save({"state_dict": {}}, p), "not a policy that SearchRL wrote"),
    "meta is no JSON": (lambda p: torch.save({"meta": "{", "weights": {}}, p), "not a policy that SearchRL wrote"),
    "meta is a list": (lambda p: torch.save({"meta": "[]", "weights": {}}, p), "not a policy that SearchRL wrote"),
    "another format": (lambda p: rewrite(p, lambda m: m.update(format="other")), "not a policy that SearchRL wrote"),
    "another shape": (lambda p: rewrite(p, lambda m: m.update(hidden=32)), "not a policy that SearchRL wrote"),
    "another encoder": (
        lambda p: rewrite(p, lambda m: m.update(encoder="0123456789abcdef")),
        "made for the embeddings of encoder 0123456789abcdef, but all-MiniLM-L6-v2 in ",
    ),
    "other features": (
        lambda p: rewrite(p, lambda m: m["feature_names"].__setitem__(0, "moon_phase")),
        "made for other features (differing: level_top, moon_phase); ",
    ),
    "an unknown setting": (
        lambda p: rewrite(p, lambda m: m["config"]["game"].update(max_step=5)),
        "unknown setting 'max_step'; did you mean 'mask' or 'max_steps'",
    ),
    "an unknown retriever": (
        lambda p: rewrite(p, lambda m: m["config"]["game"].update(retriever="hybird")),
        "retriever: unknown value 'hybird'; did you mean 'hybrid'?",
    ),
}


@pytest.mark.parametrize("fault", FOREIGN)
def test_a_foreign_checkpoint(trained: tuple[Shell, Outcome], tmp_path: Path, fault: str) -> None:
    damage, says = FOREIGN[fault]
    policy = shutil.copy(trained[0].folder / "checkpoints" / "policy_final.pt", tmp_path / "policy.pt")
    damage(policy)
    error = trained[0].eval("--checkpoint", policy, "--output-dir", tmp_path / "results").error
    assert error.startswith(f"error: {policy}: ")
    assert says in error
    assert not (tmp_path / "boom").exists(), "nothing in the file was run"
    assert not (tmp_path / "results" / "results.json").exists()


def test_the_state_of_a_run_is_no_checkpoint(trained: tuple[Shell, Outcome]) -> None:
    error = trained[0].eval("--checkpoint", "runs/small-001/state.pt").error
    assert "runs/small-001/state.pt: not a policy that SearchRL wrote" in error


BAD_CONFIGS = {
    "not JSON": ("{", "run.json: not JSON"),
    "a list": ("[]", "run.json: not an object of settings"),
    "unknown setting": (
        '{"game": {"max_step": 3}}',
        "run.json: unknown setting 'max_step'; did you mean 'mask' or 'max_steps'",
    ),
    "wrong type": ('{"learning": {"lr": "fast"}}', "run.json: lr is 'fast', which is not float"),
    "truth for a number": ('{"learning": {"episodes": true}}', "run.json: episodes is True, which is not int"),
    "number for a path": ('{"data": {"data_dir": 3}}', "run.json: data_dir is 3, which is not Path or null"),
    "unknown choice": ('{"game": {"reward": "qrel"}}', "run.json: reward: unknown value 'qrel'; did you mean 'qrels'?"),
    "no group": ('{"game": 3}', "run.json: 'game' must be an object of settings"),
    "impossible": ('{"learning": {"episodes": 0}}', "run.json: --episodes 0: must be at least 1"),
}


@pytest.mark.parametrize("fault", BAD_CONFIGS)
def test_a_bad_settings_file(shell: Shell, fault: str) -> None:
    text, says = BAD_CONFIGS[fault]
    (shell.folder / "run.json").write_text(text)
    assert says in shell.train("--config", "run.json").error


def test_a_settings_file_that_is_not_there(shell: Shell) -> None:
    assert "nowhere.json: cannot be read" in shell.train("--config", "nowhere.json").error
    assert "--config" in shell.train("--config").err


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Another bit in the middle: the file's size and form stay what they were."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def undamaged(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Outcome]:
    """Where a training on a few documents has filled a cache of its own, and what it printed."""
    splits = {split: small_dataset.splits[split].take(4) for split in ("train", "dev")}
    wanted = {d for q in splits.values() for grades in q.qrels.values() for d in grades}
    full = small_dataset.corpus
    keep = [i for i, document in enumerate(full.ids) if document in wanted][:30]
    corpus = Corpus(*([part[i][:150] for i in keep] for part in (full.ids, full.titles, full.texts)))
    for split, queries in splits.items():
        qrels = {q: {d: g for d, g in queries.qrels[q].items() if d in corpus.position} for q in queries.ids}
        splits[split] = replace(queries, qrels=qrels)
    folder = tmp_path_factory.mktemp("undamaged")
    write_beir_folder(Dataset("small", corpus, splits), folder / "small")
    shell = Shell(folder, folder / "cache")
    return shell, train(shell).ok


@pytest.fixture
def tiny(undamaged: tuple[Shell, Outcome], tmp_path: Path) -> Shell:
    """A copy of that place, to be damaged; no run was made there yet."""
    folder = shutil.copytree(undamaged[0].folder, tmp_path / "tiny", ignore=shutil.ignore_patterns("runs"))
    return Shell(folder, folder / "cache")


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
@pytest.mark.parametrize(("kind", "place"), [("index", "index/*/vectors.npy"), ("graph", "graphs/*/features.npy")])
def test_a_damaged_index_or_graph_is_rebuilt_after_saying_so(
    tiny: Shell, undamaged: tuple[Shell, Outcome], kind: str, place: str, damage: Callable[[Path], None]
) -> None:
    stored = files(tiny.cache)
    damaged = list(tiny.cache.glob(place))
    assert len(damaged) == {"index": 1, "graph": 2}[kind]
    for path in damaged:
        damage(path)
    mended = train(tiny).ok
    assert re.search(f"WARNING: The stored {kind} is damaged and will be rebuilt: {tiny.cache}", mended.err)
    assert mended.out == undamaged[1].out
    assert files(tiny.cache) == stored


@pytest.fixture(scope="module")
def tiny_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model that knows nothing, fast."""
    return random_model(tmp_path_factory.mktemp("lm") / "tiny", "qwen2")


@pytest.fixture
def judged(tiny: Shell, tiny_lm: Path) -> Callable[[], Outcome]:
    """Trains with that model as the judge."""
    return lambda: train(tiny, "--judge-depth", "10", "--reward", "lm", "--lm", tiny_lm, "--max-steps", "2")


def test_a_damaged_language_model_cache_is_begun_anew_after_saying_so(
    judged: Callable[[], Outcome], tiny: Shell
) -> None:
    answers = tiny.cache / "language_model.sqlite"
    first = judged().ok
    assert "judge against human judgments (train): " in first.out
    assert "damaged" not in first.err
    shutil.rmtree(tiny.cache / "graphs")
    truncate(answers)
    again = judged().ok
    assert re.search(f"WARNING: the language model cache {answers} is damaged", again.err)
    assert answers.with_name("language_model.sqlite.damaged").exists()
    assert again.out.replace("small-002", "small-001") == first.out
    assert cache_stats(answers).entries > 50


def test_another_programs_database_is_left_alone(judged: Callable[[], Outcome], tiny: Shell) -> None:
    path = tiny.cache / "language_model.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (id)")
    before = path.read_bytes()
    assert f"{path} is another program's database" in judged().error
    assert path.read_bytes() == before
