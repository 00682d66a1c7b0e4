"""Texts to token ids the way each of the language model's calls wants them, and token lists cut into batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from searchrl.errors import ConfigError, ModelError
from searchrl.models.language_model import split_prompt

Tokens = tuple[int, ...]


def token_batches(lengths: Sequence[int], budget: int, multiple: int = 1) -> list[list[int]]:
    """Indices by falling length, cut so that rows times padded width stays within ``budget`` tokens.

    A row longer than the budget is a batch of its own. ``multiple``: widths are rounded up to it. Falling, so that
    memory is needed most in the first batch and a progress bar errs to the safe side. Raises ConfigError on a budget
    below 1.
    """
    if budget < 1:
        raise ConfigError(f"token_budget {budget}: must be at least 1")
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


def prompt_tokens(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Ids of each prompt, as a user's message in the chat template where there is one, ready for the answer to begin
    or, where the prompt has its beginning, to go on.
    """
    if not prompts:
        return []
    if tokenizer.chat_template is None:
        texts = [scrub("\n".join(filter(None, split_prompt(prompt)))) for prompt in prompts]
        rows = tokenizer(texts, verbose=False)["input_ids"]
        return [row or [text_start(tokenizer)] for row in rows]
    # Templates ignore what they do not know. Reasoning models would otherwise begin with their thoughts, and some
    # templates write today's date into the prompt, so that the same call would change overnight.
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": scrub(message)}],
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=False,
            date_string="26 Jul 2024",
        )
        + scrub(beginning)
        for message, beginning in map(split_prompt, prompts)
    ]
    rows = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return [list(row) for row in rows]


def first_tokens(tokenizer: Any, choices: Sequence[str]) -> list[int]:
    """The id that each choice begins with, as an answer in chat or, without a template, as the text's next word.

    Raises ModelError where two choices begin with the same token or one has none.
    """
    for lead in ("",) if tokenizer.chat_template is not None else (" ", ""):
        rows = tokenizer([lead + scrub(c) for c in choices], add_special_tokens=False, verbose=False)["input_ids"]
        first = [row[0] if row else None for row in rows]
        if None not in first and len(set(first)) == len(first):
            return [int(token) for token in first if token is not None]
    shared = {c for c, t in zip(choices, first, strict=True) if t is None or first.count(t) > 1}
    raise ModelError(
        f"the model cannot tell {', '.join(repr(c) for c in choices if c in shared)} apart by their first token: "
        "choose answers that begin differently (digits 0-9, letters, Yes and No)"
    )


def text_tokens(tokenizer: Any, texts: Sequence[str], limit: int, *, special: bool) -> dict[str, Tokens]:
    """Text -> its first ``limit`` ids, each distinct text tokenized once; ``special``: with the model's text start."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return {}
    rows = tokenizer([scrub(t) for t in distinct], add_special_tokens=special, verbose=False)["input_ids"]
    return {text: tuple(row[:limit]) for text, row in zip(distinct, rows, strict=True)}


def text_start(tokenizer: Any) -> int:
    """The token that stands where there is no text: the one that begins a text, or ends one, or pads."""
    known = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return next((int(token) for token in known if token is not None), 0)
