"""What every test may use: a small real collection, the game over it, and hypothesis without a clock."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from benchmarks.bench import Bench
from searchrl import formats
from searchrl.config import DataConfig, GameConfig, ModelConfig
from searchrl.data.beir import write_beir_folder
from searchrl.data.dataset import Corpus, Dataset, QuerySet
from searchrl.data.pydocs import load_pydocs
from searchrl.device import FORMAT_VARIABLE, choose_device, cpu_has_int8
from searchrl.files import cache_dir
from searchrl.models.folders import REWARD_ADAPTER, language_model_folder, smollm2_folder
from tests.command import Outcome, Shell

# A shared machine makes single examples slow now and then; that says nothing about the code.
settings.register_profile("searchrl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("searchrl")


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # under nohup, say; the commands then ignore Ctrl-C, and rightly
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where int8 is forced and this processor has none, everything skips."""
    if os.environ.get(FORMAT_VARIABLE) == "int8" and not cpu_has_int8("cpu"):
        for item in items:
            item.add_marker(pytest.mark.skip(reason="this processor has no int8"))


DOCUMENTS = 160
QUERIES = 12


def share_models(cache: Path) -> Path:
    """Give a new cache the embedded models of the user's own, and how fast this processor is: to find out takes longer
    than most tests.
    """
    (cache / "models").mkdir(parents=True)
    choose_device("cpu")
    if (known := cache_dir() / formats.FILE).exists():
        (cache / formats.FILE).write_bytes(known.read_bytes())
    for made in (smollm2_folder(), language_model_folder(REWARD_ADAPTER)):
        (cache / "models" / made.name).symlink_to(made, target_is_directory=True)
    return cache


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made of models in this process stays in the test's own folder."""
    monkeypatch.setenv("SEARCHRL_CACHE", str(share_models(tmp_path / "own-cache")))


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    """Real documents, questions and judgments: a corner of pydocs that encodes in seconds."""
    full = load_pydocs()
    splits = {split: queries.take(QUERIES) for split, queries in full.splits.items()}
    wanted = {d for q in splits.values() for grades in q.qrels.values() for d, g in grades.items() if g > 0}
    others = [d for d in full.corpus.ids if d not in wanted][:: len(full.corpus) // (DOCUMENTS - len(wanted))]
    keep = sorted(full.corpus.position[d] for d in {*wanted, *others})
    corpus = Corpus(
        [full.corpus.ids[i] for i in keep],
        [full.corpus.titles[i] for i in keep],
        [full.corpus.texts[i][:400] for i in keep],
    )
    known = {
        split: QuerySet(
            q.ids, q.texts, {i: {d: g for d, g in q.qrels[i].items() if d in corpus.position} for i in q.ids}
        )
        for split, q in splits.items()
    }
    return Dataset("small", corpus, known)


@pytest.fixture(scope="session")
def small_folder(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a BEIR folder."""
    path = tmp_path_factory.mktemp("data") / "small"
    write_beir_folder(small_dataset, path)
    return path


@pytest.fixture(scope="session")
def bench(small_folder: Path) -> Bench:
    """Real encoder, indexes and feedback over the small collection; human judgments; nothing stored."""
    models = ModelConfig(device="cpu", cache=False)
    return Bench(
        DataConfig(dataset=str(small_folder)), models, GameConfig(reward="qrels", judge_depth=0), show_progress=False
    )


@pytest.fixture(scope="session")
def command_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all commands, so that the small collection is encoded once."""
    return share_models(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def shell(tmp_path: Path, command_cache: Path) -> Shell:
    """An empty folder to type commands in."""
    return Shell(tmp_path, command_cache)


@pytest.fixture(scope="session")
def flags(small_folder: Path) -> list[str]:
    """A training command that takes a second."""
    learning = "--episodes 1280 --eval-every 256 --checkpoint-every 600"
    return f"--dataset {small_folder} --reward qrels --judge-depth 0 --device cpu {learning}".split()


@pytest.fixture(scope="session")
def trained(flags: list[str], command_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Outcome]:
    """That command, run once for all tests that only look at what it printed and left: where, and how it ended."""
    place = Shell(tmp_path_factory.mktemp("trained"), command_cache)
    return place, place.train(*flags).ok


@pytest.fixture(scope="session")
def collections() -> Path:
    """The folder of real collections, where there is one."""
    folder = os.environ.get("SEARCHRL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SEARCHRL_DATA does not name a folder of collections")
    return Path(folder)
