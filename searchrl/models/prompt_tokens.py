"""Texts to token ids the way each of the language model's calls wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from searchrl.errors import ModelError
from searchrl.models.batching import scrub
from searchrl.models.language_model import split_prompt
from searchrl.models.shared_context import Tokens


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
