"""The machine: what it is, how busy others keep it, and how fast it multiplies large matrices."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from typing import Any

import torch

from searchrl.device import DeviceChoice, processor

CPU_SIZE, GPU_SIZE = 2048, 8192
"""Rows and columns of the large matrices."""


def describe_machine(choice: DeviceChoice) -> Mapping[str, object]:
    """What whoever reads the figures must know, JSON-able."""
    on_gpu = choice.device.startswith("cuda")
    return {
        "device": choice.device,
        "device_name": torch.cuda.get_device_name(choice.device) if on_gpu else processor(),
        "dtype": choice.dtype,
        "reason": choice.reason,
        "processor": processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def load_average() -> float | None:
    """Programs that wanted a processor, averaged over the last minute; None on systems that do not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def matrix_product(dtype: str, device: str) -> Callable[[int], float] | None:
    """Something that multiplies two large matrices of this format and returns the operations done (two a product).

    int8 is measured as torch runs it on CPUs: by oneDNN, result in float32. None where this torch has no such product.
    """
    size = CPU_SIZE if device == "cpu" else GPU_SIZE
    source = torch.Generator().manual_seed(0)
    if dtype == "int8":
        multiply = _int8_product(size, source) if device == "cpu" else None
        if multiply is None:
            return None
    else:
        one, other = (torch.randn(size, size, generator=source).to(device, getattr(torch, dtype)) for _ in range(2))

        def multiply() -> torch.Tensor:
            return one @ other

    repeats = 2 if device == "cpu" else 50

    def work(_: int) -> float:
        for _ in range(repeats):
            product = multiply()
        float(product[0, 0])  # waits for the device
        return 2.0 * size**3 * repeats

    work(0)
    return work


def _int8_product(size: int, source: torch.Generator) -> Callable[[], torch.Tensor] | None:
    operations: Any = torch.ops.onednn
    if not hasattr(operations, "qlinear_prepack") or not hasattr(operations, "qlinear_pointwise"):
        return None
    one = torch.randint(0, 127, (size, size), generator=source, dtype=torch.uint8)
    other = torch.randint(-127, 127, (size, size), generator=source, dtype=torch.int8)
    packed = operations.qlinear_prepack(other, None)
    scales, zeros = torch.ones(size), torch.zeros(size, dtype=torch.int32)

    def multiply() -> torch.Tensor:
        product: torch.Tensor = operations.qlinear_pointwise(
            one, 1.0, 64, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return product

    return multiply
