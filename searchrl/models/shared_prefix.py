"""Finds what prompts have in common at their beginning (instruction, query), so that it is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from searchrl.models.shared_context import PackedRow, Tokens

ROW_TOKENS = 512
"""Where a row is closed: attention between prompts that is masked anyway grows with the row's width."""

SHORTEST = 8
"""A shorter common beginning is not worth a wider row."""

KEPT = 0.75
"""Share of its common beginning that a group of prompts must keep to take in another one."""


@dataclass(frozen=True)
class SharedPrefix:
    """Prompts that begin alike, by their places among the prompts given, and the row that computes them together.

    Each continuation is the rest of a prompt and one more token, which stands for the answer.
    """

    places: Sequence[int]
    row: PackedRow


def share_prefixes(prompts: Sequence[Tokens], answer: int, row_tokens: int = ROW_TOKENS) -> list[SharedPrefix]:
    """Every prompt (one token or more) in one group, in lexical order; ``answer`` stands in the place of the answer."""
    groups: list[SharedPrefix] = []
    members: list[int] = []
    shared = size = 0

    def close() -> None:
        if members:
            rest = [(*prompts[i][shared:], answer) for i in members]
            groups.append(SharedPrefix(tuple(members), PackedRow(prompts[members[0]][:shared], rest)))

    for i in sorted(range(len(prompts)), key=prompts.__getitem__):
        prompt = prompts[i]
        if members:
            # Of a prompt that is the beginning of the next, at least the last token has to be in its own part.
            common = min(shared, _common(prompts[members[0]], prompt), len(prompt) - 1)
            wider = size + len(members) * (shared - common) + len(prompt) - common
            enough = max(SHORTEST, KEPT * shared if len(members) > 1 else 0)
            if common >= enough and wider <= row_tokens:
                members.append(i)
                shared, size = common, wider
                continue
        close()
        members, shared, size = [i], max(1, len(prompt) - 1), len(prompt)
    close()
    return groups


def _common(first: Tokens, second: Tokens) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
