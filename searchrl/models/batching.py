"""Cuts work of uneven length into batches, and token lists into rectangles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from searchrl.errors import ConfigError


def token_batches(lengths: Sequence[int], budget: int, multiple: int = 1) -> list[list[int]]:
    """Indices by falling length, cut so that rows times padded width stays within ``budget`` tokens.

    A row longer than the budget is a batch of its own. ``multiple``: widths are rounded up to it. Falling, so that
    memory is needed most in the first batch and a progress bar errs to the safe side. Raises ConfigError on a budget
    below 1.
    """
    if budget < 1:
        raise ConfigError(f"the token budget is {budget}; it must be at least 1")
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches, start = [], 0
    while start < len(order):
        rows = max(1, budget // padded(lengths[order[start]], multiple))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def padded(length: int, multiple: int) -> int:
    """``length`` rounded up to a multiple, at least one."""
    return max(1, -(-length // multiple)) * multiple


def pad(rows: Sequence[Sequence[int]], fill: int, side: str, multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Token ids and mask (1 where there is a token), both (rows, width) int64, padded on the ``left`` or ``right``."""
    width = padded(max(map(len, rows)), multiple)
    ids = torch.full((len(rows), width), fill, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        columns = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, columns] = torch.tensor(row, dtype=torch.long)
        mask[i, columns] = 1
    return ids, mask


def scrub(text: str) -> str:
    """The text with lone surrogates, which no tokenizer takes and JSON can hold, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
