"""Scores many continuations of one context in one row, so that each distinct context is computed once.

A row is [context; continuation 1; ...; continuation k]. Attention lets every continuation see the context and itself
but not its siblings, and every continuation's positions start again where the context ends: the same numbers as k
separate rows, to rounding. Each continuation's last token is left out; nothing is predicted from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from searchrl.models.batching import pad

Tokens = tuple[int, ...]

ROW_TOKENS = 1024
"""Where a row is closed: past this, attention between siblings that is masked anyway outweighs the shared context."""


@dataclass(frozen=True)
class PackedRow:
    """A context (at least one token) and some of its continuations (each at least one token)."""

    context: Tokens
    continuations: Sequence[Tokens]

    def __len__(self) -> int:
        return len(self.context) + sum(len(c) - 1 for c in self.continuations)


def pack(groups: Mapping[Tokens, Sequence[Tokens]], row_tokens: int = ROW_TOKENS) -> list[PackedRow]:
    """Rows that hold every context's continuations; a context is repeated where they exceed ``row_tokens``."""
    rows = []
    for context, continuations in groups.items():
        start, length = 0, len(context)
        for i, continuation in enumerate(continuations):
            if length + len(continuation) - 1 > row_tokens and i > start:
                rows.append(PackedRow(context, continuations[start:i]))
                start, length = i, len(context)
            length += len(continuation) - 1
        rows.append(PackedRow(context, continuations[start:]))
    return rows


@dataclass(frozen=True)
class PackedBatch:
    """Rows as tensors, (rows, width), padded on the right, and where each continuation token is predicted."""

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor
    """(rows, 1, width, width) bool: may this position (third axis) see that one (fourth)?"""
    predictors: Tensor
    """(m,) int64: flat positions, row * width + column, whose hidden state predicts the m continuation tokens."""
    targets: Tensor
    """(m,) int64: those tokens."""
    lengths: Sequence[int]
    """Tokens of each continuation, in the order of rows and of continuations within them; they sum to m."""


def batch_rows(rows: Sequence[PackedRow], fill: int, multiple: int = 1) -> PackedBatch:
    """Lay packed rows out as tensors; padding carries the token ``fill``."""
    tokens = [[*row.context, *(t for c in row.continuations for t in c[:-1])] for row in rows]
    input_ids, _ = pad(tokens, fill, "right", multiple)
    width = input_ids.shape[1]
    segment = torch.zeros_like(input_ids)  # 0 the context, then 1, 2, ... the continuations; -1 padding
    position = torch.zeros_like(input_ids)
    predictors: list[int] = []
    targets: list[int] = []
    for i, row in enumerate(rows):
        column = len(row.context)
        position[i, :column] = torch.arange(column)
        for k, continuation in enumerate(row.continuations, start=1):
            end = column + len(continuation) - 1
            segment[i, column:end] = k
            position[i, column:end] = torch.arange(len(row.context), len(row.context) + end - column)
            predictors += [i * width + c for c in (len(row.context) - 1, *range(column, end))]
            targets += continuation
            column = end
        segment[i, column:] = -1
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    related = (segment[:, None, :] == 0) | (segment[:, None, :] == segment[:, :, None])
    return PackedBatch(
        input_ids,
        position,
        (related & causal)[:, None],
        torch.tensor(predictors),
        torch.tensor(targets),
        [len(c) for row in rows for c in row.continuations],
    )
