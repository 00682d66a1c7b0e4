from __future__ import annotations

from pathlib import Path

import pytest

from searchrl.cache_dir import cache_dir, cache_path
from searchrl.errors import ConfigError


def test_naming_the_cache_makes_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("SEARCHRL_CACHE", str(tmp_path / "new"))
    assert cache_path() == tmp_path / "new"
    assert not (tmp_path / "new").exists()
    assert cache_dir() == tmp_path / "new"
    assert not list((tmp_path / "new").iterdir())


def test_a_relative_cache_home_is_ignored(monkeypatch):
    monkeypatch.delenv("SEARCHRL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_path() == Path.home() / ".cache" / "searchrl"


def test_a_relative_cache_of_ones_own_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEARCHRL_CACHE", "here")
    assert cache_path() == tmp_path / "here"


def test_a_home_that_does_not_exist_is_one_clear_error(monkeypatch):
    monkeypatch.setenv("SEARCHRL_CACHE", "~nobody-of-that-name/cache")
    with pytest.raises(ConfigError, match="SEARCHRL_CACHE"):
        cache_path()
