"""Numeric formats and instruction sets: which are in force, and how far numbers may lie apart."""

from __future__ import annotations

import numpy as np

from searchrl.device import DeviceChoice, choose_device, encoder_dtype, with_dtype

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.06, "float16": 0.01, "int8": 0.25}
"""By how much a score (a log-probability per token, a logit) may change where only rounding differs."""


COSINE_TOLERANCE = {"float32": 1e-5, "bfloat16": 0.01, "float16": 2e-3, "int8": 0.03}
"""By how much a part of an embedding, or a cosine, may change where a text was encoded in another batch."""


def cosine_tolerance() -> float:
    """That of the encoder's format on this machine."""
    return COSINE_TOLERANCE[encoder_dtype(choose_device("cpu"), "auto").dtype]


def in_force(has_int8: bool = True) -> DeviceChoice:
    """What a command without ``--dtype`` computes in on this machine."""
    return with_dtype(choose_device("cpu"), "auto", has_int8=has_int8)


def instruction_sets() -> dict[str, dict[str, str]]:
    """Environments in which NumPy, torch and oneDNN use less than this processor has; the last changes nothing."""
    umath = np._core._multiarray_umath
    there = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name)]
    wide = [name for name in there if name.startswith(("AVX512", "X86_V4"))]
    lowest = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(there),
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Nehalem",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    }
    middle = {
        "NPY_DISABLE_CPU_FEATURES": " ".join(wide),
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }
    return {"lowest": lowest, **({"avx2": middle} if wide else {}), "highest": {}}


if __name__ == "__main__":  # for a shell: env $(python -m tests.formats lowest) make test
    import shlex
    import sys

    settings = instruction_sets()[sys.argv[1]]
    sys.stdout.write(" ".join(shlex.quote(f"{name}={value}") for name, value in settings.items() if value) + "\n")
