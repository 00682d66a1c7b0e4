from pathlib import Path

import numpy as np
import pytest
import torch

from searchrl import device
from searchrl.device import (
    FORMAT_VARIABLE,
    available_devices,
    choose_device,
    encoder_dtype,
    generator,
    rng,
    seed_everything,
    with_dtype,
)
from searchrl.errors import ConfigError, DeviceError, OutputError
from searchrl.files import cache_dir


@pytest.fixture(autouse=True)
def nothing_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FORMAT_VARIABLE, raising=False)


def test_a_format_is_forced_by_the_environment_and_a_setting_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORMAT_VARIABLE, "bfloat16")
    forced = choose_device("cpu")
    assert (forced.dtype, forced.forced) == ("bfloat16", True)
    assert FORMAT_VARIABLE in forced.reason
    assert with_dtype(forced, "auto", keeps_int8=True).dtype == encoder_dtype(forced, "auto").dtype == "bfloat16"
    assert with_dtype(forced, "float32").dtype == encoder_dtype(forced, "float32").dtype == "float32"
    monkeypatch.setattr("searchrl.device.cpu_has_int8", lambda device: device == "cpu")
    monkeypatch.setenv(FORMAT_VARIABLE, "int8")
    assert with_dtype(choose_device("cpu"), "auto", has_int8=False).dtype == "float32"
    monkeypatch.setattr("searchrl.device.cpu_has_int8", lambda device: False)
    assert with_dtype(choose_device("cpu"), "float32").dtype == "float32"  # a setting wins, so nothing is missing
    with pytest.raises(DeviceError, match="int8 is not available"):
        with_dtype(choose_device("cpu"), "auto")
    monkeypatch.setenv(FORMAT_VARIABLE, "float23")
    with pytest.raises(ConfigError, match="float32"):
        choose_device("cpu")


def test_auto_takes_the_first_available_and_says_why():
    choice = choose_device()
    assert choice.device == available_devices()[0]
    assert choice.device in choice.reason
    assert choice.dtype in choice.reason
    assert isinstance(choice.torch_dtype, torch.dtype)


def test_cpu_is_always_there():
    assert choose_device("cpu").device == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "CPU"])
def test_an_absent_device_is_refused_with_those_present(name):
    with pytest.raises(DeviceError, match=r"available:.*cpu"):
        choose_device(name)


@pytest.mark.parametrize(
    ("capability", "dtype"), [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float16"), ((6, 1), "float16")]
)
def test_cuda_format_follows_the_hardware(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert choose_device().device == "cuda"
    assert choose_device("cuda:1").dtype == dtype
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert (choose_device().device, choose_device().dtype) == ("mps", "float16")


@pytest.mark.parametrize(("speed", "dtype"), [(2.0, "bfloat16"), (1.1, "float32"), (0.3, "float32"), (0.0, "float32")])
def test_the_cpu_format_is_the_fastest_by_a_margin(monkeypatch: pytest.MonkeyPatch, speed: float, dtype: str) -> None:
    monkeypatch.setattr(device, "cpu_speeds", lambda: {"float32": 1.0, "bfloat16": speed})
    assert choose_device("cpu").dtype == dtype


def test_a_processor_is_named_without_cpuinfo_and_with_what_limits_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(device, "CPUINFO", tmp_path / "cpuinfo")
    assert device.processor()
    (tmp_path / "cpuinfo").write_text("model name\t: Made for bf16\nflags\t\t: fpu avx2 avx512_bf16\n")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    name = device.processor()
    assert name.startswith("Made for bf16 (")
    assert "avx512_bf16" in name
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in name


def test_streams_repeat_by_name_and_differ_otherwise():
    names = [(0,), (1,), (0, "a"), (0, "a", 1), (0, "a", "1"), (0, "ab", "c"), (0, "a", "bc"), (-1,), (2**70,)]
    draws = [tuple(rng(*n).random(4)) for n in names]
    torch_draws = [tuple(torch.rand(4, generator=generator(*n)).tolist()) for n in names]
    assert len(set(draws)) == len(set(torch_draws)) == len(names)
    assert draws == [tuple(rng(*n).random(4)) for n in names]
    assert torch_draws == [tuple(torch.rand(4, generator=generator(*n)).tolist()) for n in names]


def test_seed_everything_repeats_the_global_generators():
    was = torch.are_deterministic_algorithms_enabled()
    try:
        seed_everything(2**33 + 5)
        first = (np.random.rand(), torch.rand(1).item())  # noqa: NPY002
        seed_everything(2**33 + 5)
        assert first == (np.random.rand(), torch.rand(1).item())  # noqa: NPY002
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(was)


def test_cache_dir_prefers_its_own_variable_then_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("SEARCHRL_CACHE", raising=False)
    assert cache_dir() == tmp_path / "xdg" / "searchrl"
    monkeypatch.setenv("SEARCHRL_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    assert cache_dir().is_dir()
    monkeypatch.delenv("SEARCHRL_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "searchrl"


def test_an_impossible_cache_dir_is_one_clear_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEARCHRL_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="SEARCHRL_CACHE"):
        cache_dir()
    monkeypatch.setenv("SEARCHRL_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(OutputError, match="SEARCHRL_CACHE"):
        cache_dir()
