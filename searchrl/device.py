"""Which device computes, in which numeric format, and why; and where every random number comes from."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from searchrl.errors import ConfigError, DeviceError, nearest

if TYPE_CHECKING:
    import torch

CPUINFO = Path("/proc/cpuinfo")

FORMAT_VARIABLE = "SEARCHRL_DTYPE"
"""Environment variable that forces a numeric format on every model that is not told otherwise."""

FORMATS = ("float32", "bfloat16", "float16", "int8")

MATRIX_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16", "avx512_vnni", "avx_vnni", "amx_int8", "i8mm"})
"""CPU features, as Linux names them, that decide which format is fast, and how sums are rounded."""

ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
"""Environment variables that keep products from using all that the processor has."""


@dataclass(frozen=True)
class DeviceChoice:
    """A device, the format models compute in there, and the reason in words."""

    device: str
    """``mps``, ``cuda``, ``cuda:N`` or ``cpu``, as torch names it."""
    dtype: str
    """``float32``, ``bfloat16``, ``float16`` or ``int8`` (see ``int8.py``)."""
    reason: str
    forced: bool = False
    """Whether the format comes from ``FORMAT_VARIABLE``, and so holds where a model would choose another."""

    @property
    def torch_dtype(self) -> torch.dtype:
        """The format of the weights as they are loaded, as torch's own object; int8 is made of float32."""
        import torch

        dtype: torch.dtype = getattr(torch, "float32" if self.dtype == "int8" else self.dtype)
        return dtype


def choose_device(name: str = "auto") -> DeviceChoice:
    """Take the device asked for, or with ``auto`` the first there is of mps, cuda, cpu; a number is a CUDA device's.

    Raises DeviceError where the named device is unknown or absent, saying which are there.
    """
    there = available_devices()
    name = f"cuda:{name}" if name.isdecimal() else name
    device, why = name, f"{name} was asked for"
    if name == "auto":
        device = there[0]
        why = f"{device} is the first available of mps, cuda, cpu"
    elif name not in there:
        raise DeviceError(f"device {name!r} is not here; available: {', '.join(there)} (auto chooses {there[0]})")
    forced = os.environ.get(FORMAT_VARIABLE) or "auto"
    if forced == "auto":
        dtype, because = _choose_dtype(device)
        return DeviceChoice(device, dtype, f"{why}; {dtype}, because {because}")
    if forced not in FORMATS:
        raise ConfigError(f"{FORMAT_VARIABLE}={forced}: {nearest(forced, ('auto', *FORMATS))}")
    return DeviceChoice(device, forced, f"{why}; {forced}, because {FORMAT_VARIABLE} says so", forced=True)


def with_dtype(choice: DeviceChoice, dtype: str, keeps_int8: bool = False, has_int8: bool = True) -> DeviceChoice:
    """The same device with a model's own numeric format.

    ``auto``: the device's, but int8 on a CPU that computes it faster than anything else (``formats.py``), for a model
    that is known to keep its answers in it (``keeps_int8``); float32 in the place of a forced int8 for what has no such
    form (``has_int8`` false). Raises DeviceError where the device has no int8.
    """
    if dtype != "auto":
        _check_int8(choice.device, dtype)
        return replace(choice, dtype=dtype, reason=f"{dtype} was asked for", forced=False)
    if choice.dtype == "int8" and not has_int8:
        return replace(choice, dtype="float32", reason="this kind of model has no int8")
    if not choice.forced and keeps_int8 and choice.device == "cpu" and _fastest(choice.dtype, "int8") == "int8":
        return replace(choice, dtype="int8", reason=f"this CPU computes it faster than {choice.dtype}")
    _check_int8(choice.device, choice.dtype)
    return choice


def encoder_dtype(choice: DeviceChoice, dtype: str) -> DeviceChoice:
    """The same device with an encoder's numeric format; ``auto``: float32, in which published figures are made."""
    if dtype == "auto" and not choice.forced:
        return replace(choice, dtype="float32", reason="published figures are made in it")
    return with_dtype(choice, dtype)


def processor() -> str:
    """The processor's model as Linux names it, else what Python knows, and torch's instruction set there."""
    import platform

    import torch

    models = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    limits = [f"{variable}={os.environ[variable]}" for variable in ISA_VARIABLES if os.environ.get(variable)]
    units = [torch.backends.cpu.get_cpu_capability(), *sorted(_cpu_flags() & MATRIX_FLAGS), *limits]
    return f"{name} ({', '.join(units)})"


def _check_int8(device: str, dtype: str) -> None:
    if dtype == "int8" and not cpu_has_int8(device):
        raise DeviceError(f"int8 is not available on this {device}: it needs an x86 CPU with AVX2 and oneDNN")


def cpu_has_int8(device: str) -> bool:
    """Whether this is a CPU for which torch has fast 8-bit matrix products."""
    import platform

    import torch

    on_x86 = device == "cpu" and platform.machine().lower() in {"x86_64", "amd64"}
    fast = torch.backends.cpu.get_cpu_capability().startswith("AVX")  # AVX2, AVX512
    return on_x86 and fast and hasattr(torch.ops.onednn, "qlinear_pointwise")


def available_devices() -> list[str]:
    """Names of the devices there are, best first; with several CUDA devices also ``cuda:0``, ``cuda:1``, ..."""
    import torch

    has_mps = torch.backends.mps.is_available()  # type: ignore[no-untyped-call, unused-ignore]
    devices = ["mps"] if has_mps else []
    if torch.cuda.is_available():
        devices += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    return [*devices, "cpu"]


def _cpu_flags() -> set[str]:
    lines = [line for line in _cpuinfo() if line.lower().startswith(("flags", "features"))]
    return {word for line in lines for word in line.partition(":")[2].split()}


def _cpuinfo() -> list[str]:
    try:
        return CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _choose_dtype(device: str) -> tuple[str, str]:
    import torch

    if device == "mps":
        return "float16", "that is the fast format on mps"
    if device.startswith("cuda"):
        # Asked of the hardware: torch.cuda.is_bf16_supported() also says yes to slow emulation.
        if torch.cuda.get_device_capability(device)[0] >= 8:
            return "bfloat16", "this GPU computes it natively"
        return "float16", "this GPU has no native bfloat16"
    if _fastest("float32", "bfloat16") == "bfloat16":
        return "bfloat16", "this CPU computes it faster than float32"
    return "float32", "this CPU computes bfloat16 no faster"


def cpu_speeds() -> Mapping[str, float]:
    """Tokens a second of a transformer layer on one thread, by numeric format; see ``formats.py``.

    All formats are measured at once, so that every question has the answer of the same measurement.
    """
    from searchrl import formats

    return formats.speeds(("float32", "bfloat16", *(["int8"] if cpu_has_int8("cpu") else [])), processor())


def _fastest(*among: str) -> str:
    from searchrl import formats

    return formats.fastest(among, cpu_speeds())


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, for libraries that use them, and ask torch for
    deterministic algorithms where it has them. SearchRL's own randomness comes from ``generator`` and ``rng``.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its results only with this
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = False
    torch.set_deterministic_debug_mode("warn")  # as use_deterministic_algorithms, which would import torch's compiler


def rng(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator of its own for ``names`` under ``seed``: equal names repeat it, others are independent."""
    return np.random.default_rng(_stream(seed, names))


def generator(seed: int, *names: str | int, device: str = "cpu") -> torch.Generator:
    """A torch generator of its own for ``names`` under ``seed``; see ``rng``. The numbers depend on the device."""
    import torch

    return torch.Generator(device=device).manual_seed(_stream(seed, names) % 2**63)


def _stream(seed: int, names: tuple[str | int, ...]) -> int:
    """128 bits that name a stream. Spelt out as JSON, so that ("ab", "c") and ("a", "bc") differ, as do 1 and "1"."""
    return int.from_bytes(hashlib.sha256(json.dumps([seed, *names]).encode()).digest()[:16], "little")
