from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from searchrl.data import load
from searchrl.data.load import load_dataset
from searchrl.errors import ConfigError, DataError, DownloadError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory and cache, and no data folder named."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("SEARCHRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEARCHRL_DATA", raising=False)


def test_pydocs_by_name():
    assert load_dataset("pydocs").name == "pydocs"


def test_a_path(make_folder):
    folder = make_folder()
    for path in (str(folder), f"{folder}/", "../zoo"):
        assert load_dataset(path).name == "zoo"


def test_a_folder_here_by_its_bare_name(make_folder):
    make_folder("cwd/herd")
    assert load_dataset("herd").name == "herd"


def test_the_working_directory_itself(make_folder, monkeypatch):
    monkeypatch.chdir(make_folder())
    assert load_dataset(".").name == "zoo"


def test_home_is_expanded(make_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(make_folder().parent))
    monkeypatch.setenv("USERPROFILE", str(make_folder("other").parent))
    assert load_dataset("~/zoo").name == "zoo"


def test_a_name_under_the_data_folder_and_under_the_variable(make_folder, monkeypatch):
    flag, variable = make_folder("flag/zoo"), make_folder("variable/zoo", corpus='{"_id": "d1", "text": "other"}\n')
    monkeypatch.setenv("SEARCHRL_DATA", str(variable.parent))
    with pytest.warns(UserWarning, match="dropped"):
        assert len(load_dataset("zoo").corpus) == 1
    assert len(load_dataset("zoo", data_dir=flag.parent).corpus) == 3, "the flag comes before the variable"


def test_results_that_share_the_name_do_not_hide_the_dataset(make_folder, tmp_path):
    make_folder("data/zoo")
    (tmp_path / "cwd" / "zoo").mkdir()
    assert len(load_dataset("zoo", data_dir=tmp_path / "data").corpus) == 3


def test_a_folder_that_is_no_dataset_says_what_it_lacks(tmp_path):
    (tmp_path / "cwd" / "zoo").mkdir()
    with pytest.raises(DataError, match=r"missing: corpus\.jsonl"):
        load_dataset("zoo")


def test_dev_is_split_off_with_the_seed(make_folder):
    dataset = load_dataset(str(make_folder()), seed=3)
    assert list(dataset.splits) == ["train", "dev", "test"]
    assert "seed 3" in dataset.notes[-1]


@pytest.mark.parametrize(
    ("name", "hint"), [("scifct", "'scifact'"), ("PyDocs", "'pydocs'"), ("zo", "'zoo'"), ("", "Valid: arguana")]
)
def test_unknown_names_get_the_nearest(make_folder, name, hint):
    data_dir = make_folder().parent
    with pytest.raises(ConfigError, match=hint):
        load_dataset(name, data_dir=data_dir)


@pytest.mark.parametrize("path", ["./absent", "/absent/folder", "../absent", "absent/"])
def test_a_path_that_leads_nowhere(path):
    with pytest.raises(DataError, match="no such folder"):
        load_dataset(path)


def test_a_home_that_does_not_exist():
    with pytest.raises((ConfigError, DataError)):
        load_dataset("~nobody-of-that-name/zoo")


def test_downloading_can_be_switched_off(tmp_path):
    with pytest.raises(DataError, match=r"'scifact' is in none of .*cache.*downloading is switched off"):
        load_dataset("scifact", download=False)


def test_an_unreachable_mirror_is_one_error(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9/scifact\.zip: the host cannot be reached"):
        load_dataset("scifact", data_dir=tmp_path / "new", mirror="http://127.0.0.1:9")


def test_downloads_go_to_the_first_folder_that_can_be_written(monkeypatch, tmp_path, make_folder):
    asked: list[Path] = []

    def fetched(name: str, data_dir: Path, mirror: str | None) -> Path:
        asked.append(data_dir)
        return make_folder(f"fetched{len(asked)}")

    monkeypatch.setattr(load, "fetch_beir", fetched)
    load_dataset("scifact", data_dir=tmp_path / "flag")
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEARCHRL_DATA", str(tmp_path / "file" / "below"))  # cannot be made, whoever runs this
    load_dataset("scifact")
    assert asked == [tmp_path / "flag", tmp_path / "cache" / "datasets"]


def test_a_collection_in_the_cache_is_found(make_folder):
    make_folder("cache/datasets/scifact")
    assert load_dataset("scifact", download=False).name == "scifact"


def test_looking_for_a_dataset_makes_no_cache(make_folder, tmp_path):
    load_dataset("zoo", data_dir=make_folder().parent)
    with pytest.raises(DataError):
        load_dataset("scifact", download=False)
    assert not (tmp_path / "cache").exists()


def test_importing_it_is_light():
    """Commands answer ``--help`` at once, so nothing here may pull in what only loading needs."""
    code = "import sys, searchrl.data.load, searchrl.data.trec, searchrl.data.query_bank; print(*sys.modules)"
    root = Path(load.__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert not {"beir", "requests", "tqdm", "torch", "scipy"} & set(run.stdout.split())
