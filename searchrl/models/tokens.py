"""Texts to token ids the way each of the language model's calls wants them, cut into batches, and packed into rows.

A packed row is [context; continuation 1; ...; continuation k]: what texts have in common is computed once. Attention
lets every continuation see the context and itself but not its siblings, and every continuation's positions start again
where the context ends: the same numbers as k separate rows, to rounding. Each continuation's last token is left out;
nothing is predicted from it. ``pack`` makes rows of contexts and their continuations, ``share_prefixes`` of whole
prompts that begin alike (instruction, query), and ``PackedForward`` computes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from searchrl.checks import at_least
from searchrl.device import DeviceChoice
from searchrl.errors import ModelError
from searchrl.models.language_model import Prompt, split_prompt
from searchrl.text import canonical
from searchrl.threads import lazy

Tokens = tuple[int, ...]

NO_LIMIT = 1 << 30
"""What tokenizers say that have no limit is more."""


def token_batches(lengths: Sequence[int], budget: int, multiple: int = 1) -> list[list[int]]:
    """Indices by falling length, cut so that rows times padded width stays within ``budget`` tokens.

    A row longer than the budget is a batch of its own. ``multiple``: widths are rounded up to it. Falling, so that the
    first batch needs most memory. Raises ConfigError on a budget below 1.
    """
    at_least("token_budget", budget, 1)
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches, start = [], 0
    while start < len(order):
        rows = max(1, budget // padded(lengths[order[start]], multiple))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def default_budget(device: str) -> int:
    """Tokens in one forward pass: what fits a CPU's cache; more elsewhere."""
    return 1024 if device == "cpu" else 32768


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
    """The text as models read it: composed, and lone surrogates, which no tokenizer takes and JSON can hold, replaced
    by question marks.
    """
    return canonical(text).encode("utf-8", "replace").decode("utf-8")


def prompt_tokens(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Ids of each prompt, as a user's message in the chat template where there is one, ready for the answer to begin
    or, where the prompt has its beginning, to go on. A message is text: see ``data_tokens``.
    """
    if not prompts:
        return []
    if tokenizer.chat_template is None:
        texts = ["\n".join(filter(None, split_prompt(prompt))) for prompt in prompts]
        rows = [list(row) for row in _plain(tokenizer, texts, special=True)]
        return [row or [text_start(tokenizer)] for row in rows]
    # Templates ignore what they do not know. Reasoning models would otherwise begin with their thoughts, and some
    # templates write today's date into the prompt, so that the same call would change overnight.
    settings = {"add_generation_prompt": True, "enable_thinking": False, "date_string": "26 Jul 2024"}
    split = [tuple(map(scrub, split_prompt(prompt))) for prompt in prompts]
    turns = [[{"role": "user", "content": message}] for message, _ in split]
    return chat_tokens(tokenizer, turns, [beginning for _, beginning in split], **settings)


def chat_tokens(
    tokenizer: Any, conversations: Sequence[Sequence[Mapping[str, str]]], endings: Sequence[str] = (), **settings: Any
) -> list[list[int]]:
    """Ids of conversations in the chat template, each with an ending after it; the turns' contents are text.

    settings: for the template.
    """

    def written(turns: Sequence[Mapping[str, str]]) -> str:
        return str(tokenizer.apply_chat_template([dict(turn) for turn in turns], tokenize=False, **settings))

    endings = endings or [""] * len(conversations)
    control = control_tokens(tokenizer)
    texts = [written(turns) + ending for turns, ending in zip(conversations, endings, strict=True)]
    rows = [list(row) for row in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]
    for i, turns in enumerate(conversations):
        if any(control.search(turn["content"]) for turn in turns):
            marked = written([{**turn, "content": f"\ue000{k}\ue001"} for k, turn in enumerate(turns)])
            pieces = re.split("\ue000([0-9]+)\ue001", marked + endings[i])
            if len(pieces) != 2 * len(turns) + 1:
                raise ModelError(
                    "the model's chat template does not write its turns as they are: texts that spell its "
                    "control tokens cannot be read as text; remove them, or use another model"
                )
            rows[i] = []
            for k, piece in enumerate(pieces):
                rows[i] += data_tokens(tokenizer, turns[int(piece)]["content"]) if k % 2 else _ids(tokenizer, piece)
    return rows


def control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Matches the spelling of a tokenizer's control tokens: special ones, and others in brackets (``<think>``)."""
    found: re.Pattern[str] | None = tokenizer.__dict__.get("_searchrl_control")
    if found is None:
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        spelled = [str(t) for t in added if t.special or re.fullmatch(r"<\S+>|\[\S+\]", str(t))]
        found = re.compile("|".join(map(re.escape, sorted(spelled, key=len, reverse=True))) or r"(?!)")
        tokenizer.__dict__["_searchrl_control"] = found
    return found


def data_tokens(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text in which control tokens are text like any other: whoever wrote it cannot speak to the model."""
    ids: list[int] = []
    start, control = 0, control_tokens(tokenizer)
    while match := control.search(text, start):
        ids += _ids(tokenizer, text[start : match.start() + 1])  # cut behind its first character, it is none
        start = match.start() + 1
    return ids + _ids(tokenizer, text[start:])


def template_tokens(tokenizer: Any, template: str, texts: Mapping[str, str]) -> list[int]:
    """Ids of a template with ``{name}`` for each of ``texts``: its control tokens are tokens, those in texts are text.

    The token that a tokenizer puts before every text is put here too, once.
    """
    pieces = re.split("{(" + "|".join(map(re.escape, texts)) + ")}", template)
    ids: list[int] = []
    for k, piece in enumerate(pieces):
        ids += data_tokens(tokenizer, texts[piece]) if k % 2 else _ids(tokenizer, piece)
    begin = tokenizer.bos_token_id
    begins = begin is not None and tokenizer("a")["input_ids"][0] == begin
    return [begin, *ids] if begins and ids[:1] != [begin] else ids


def readable_tokens(model: Any, tokenizer: Any) -> int | None:
    """Tokens that a transformer reads at once, by its table of positions and what its tokenizer says; None: no limit.

    RoBERTa and its kin begin to count behind the padding's position, so that fewer tokens fit than there are positions.
    """
    limits = [getattr(model.config.get_text_config(), "max_position_embeddings", None)]
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "position_embeddings" and getattr(module, "padding_idx", None) is not None:
            limits.append(module.num_embeddings - module.padding_idx - 1)
    limits.append(getattr(tokenizer, "model_max_length", None))
    known = [int(limit) for limit in limits if limit and 0 < limit < NO_LIMIT]
    return min(known, default=None)


def text_is_data(model: Any) -> None:
    """Have a sentence-transformers model read control tokens in texts as text, unless its own prompts write them."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or getattr(tokenizer, "chat_template", None):
        return
    control, prompts = control_tokens(tokenizer), getattr(model, "prompts", None) or {}
    if not any(control.search(prompt) for prompt in prompts.values() if prompt):
        tokenizer.split_special_tokens = True


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) if text else []


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What a tokenizer puts before and behind a text."""
    bare = _ids(tokenizer, "a")
    framed = list(tokenizer("a", verbose=False)["input_ids"])
    at = next((i for i in range(len(framed)) if framed[i : i + len(bare)] == bare), 0)
    return framed[:at], framed[at + len(bare) :]


def _plain(tokenizer: Any, texts: Sequence[str], *, special: bool) -> list[Sequence[int]]:
    """Ids of texts, of a ``Prompt`` with its own control tokens; ``special``: with the model's text start."""
    if not texts:
        return []
    rows = list(tokenizer([scrub(text) for text in texts], add_special_tokens=special, verbose=False)["input_ids"])
    control = control_tokens(tokenizer)
    for i, text in enumerate(texts):
        parts = text.parts if isinstance(text, Prompt) else ((text, True),)
        if any(data and control.search(part) for part, data in parts):
            own = [
                data_tokens(tokenizer, scrub(part)) if data else _ids(tokenizer, scrub(part)) for part, data in parts
            ]
            ids = [token for part in own for token in part]
            before, after = _frame(tokenizer) if special else ([], [])
            rows[i] = [*before, *ids, *after]
    return rows


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
    raise alike("the model", [choice for choice in choices if choice in shared])


def alike(model: str, choices: Sequence[str]) -> ModelError:
    """The error of choices that begin with the same token; ``model`` is how it calls the model."""
    return ModelError(
        f"{model} cannot tell {', '.join(map(repr, choices))} apart by their first token: choose answers that begin "
        "differently (digits 0-9, letters, Yes and No)"
    )


def text_tokens(tokenizer: Any, texts: Sequence[str], limit: int, *, special: bool) -> dict[str, Tokens]:
    """Text -> its first ``limit`` ids, each distinct text tokenized once; ``special``: with the model's text start, so
    that even an empty text has one.
    """
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return {}
    rows = _plain(tokenizer, distinct, special=special)
    nothing = (text_start(tokenizer),) if special else ()
    return {text: tuple(row[:limit]) or nothing for text, row in zip(distinct, rows, strict=True)}


def text_start(tokenizer: Any) -> int:
    """The token that stands where there is no text: the one that begins a text, or ends one, or pads."""
    known = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return next((int(token) for token in known if token is not None), 0)


CONTEXT_ROW_TOKENS = 1024
"""Where a row is closed: past this, attention between siblings that is masked anyway outweighs the shared context."""

PREFIX_ROW_TOKENS = 512
"""Where a row is closed: attention between prompts that is masked anyway grows with the row's width."""

SHORTEST = 8
"""A shorter common beginning is not worth a wider row."""

KEPT = 0.75
"""Share of its common beginning that a group of prompts must keep to take in another one."""

LOGITS_AT_ONCE = 1 << 25
"""Float32 logits held at a time (128 MiB); the vocabulary projection runs in slices of that size."""

LOGITS_IN_CACHE = 16
"""Rows of logits that a CPU reduces together: its cache holds them between the passes. The same bits as all at once."""

TOLERANCE = {"float32": 1e-3, "int8": 0.05}
"""Nats by which a packed row may differ from a plain one; 0.25 in half precision."""


@dataclass(frozen=True)
class PackedRow:
    """A context (at least one token) and some of its continuations (each at least one token)."""

    context: Tokens
    continuations: Sequence[Tokens]

    def __len__(self) -> int:
        return len(self.context) + sum(len(c) - 1 for c in self.continuations)


def pack(groups: Mapping[Tokens, Sequence[Tokens]], row_tokens: int = CONTEXT_ROW_TOKENS) -> list[PackedRow]:
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


@dataclass(frozen=True)
class SharedPrefix:
    """Prompts that begin alike, by their places among the prompts given, and the row that computes them together.

    Each continuation is the rest of a prompt and one more token, which stands for the answer.
    """

    places: Sequence[int]
    row: PackedRow


def share_prefixes(prompts: Sequence[Tokens], answer: int, row_tokens: int = PREFIX_ROW_TOKENS) -> list[SharedPrefix]:
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


class PackedForward:
    """A loaded causal language model that reads packed rows.

    fill: the token that padding carries. multiple: widths are rounded up to it. sample: a sentence, to try it on.
    """

    def __init__(self, model: Any, choice: DeviceChoice, fill: int, multiple: int, sample: Tokens) -> None:
        self._sample = sample
        self._model = model
        self._choice = choice
        self._fill = fill
        self._multiple = multiple
        self._rows = LOGITS_IN_CACHE if choice.device == "cpu" else LOGITS_AT_ONCE

    @torch.inference_mode()
    def mean_logprobs(self, rows: Sequence[PackedRow]) -> list[float]:
        """Mean log-probability per token of every continuation of every row, in order."""
        packed = batch_rows(rows, self._fill, self._multiple)
        states = self._states(packed, packed.predictors)
        head = self._model.get_output_embeddings()
        size = max(1, LOGITS_AT_ONCE // head.weight.shape[0])
        targets = packed.targets.to(self._choice.device)
        parts = []
        for some, tokens in zip(torch.split(states, size), torch.split(targets, size), strict=True):
            blocks = torch.split(head(some), self._rows)
            for block, wanted in zip(blocks, torch.split(tokens, self._rows), strict=True):
                logits = block.float()
                parts.append(logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(1))
        return [float(part.mean()) for part in torch.split(torch.cat(parts).cpu(), list(packed.lengths))]

    @torch.inference_mode()
    def last_logits(self, rows: Sequence[PackedRow], wanted: Tensor) -> Tensor:
        """Logits of the tokens ``wanted`` (w,) in the place of every continuation's last token, (continuations, w)."""
        packed = batch_rows(rows, self._fill, self._multiple)
        ends = torch.tensor(packed.lengths).cumsum(0) - 1
        logits: Tensor = self._model.get_output_embeddings()(self._states(packed, packed.predictors[ends]))
        return logits[:, wanted].float()

    def _states(self, packed: PackedBatch, places: Tensor) -> Tensor:
        device = self._choice.device
        hidden: Tensor = self._model.base_model(
            input_ids=packed.input_ids.to(device),
            attention_mask=packed.attention_mask.to(device),
            position_ids=packed.position_ids.to(device),
            use_cache=False,
        ).last_hidden_state
        return hidden.flatten(0, 1)[places.to(device)]

    @lazy
    def works(self) -> bool:
        """Whether packed rows score what the model's own forward pass does; found out on the sample.

        They do for transformers that take a full attention mask and project their last hidden state as it is; not for
        recurrent ones, nor where logits are scaled or capped afterwards.
        """
        context, endings = self._sample[:3], (self._sample[3:], self._sample[4:])
        expected = []
        with torch.inference_mode():
            for ending in endings:
                ids = torch.tensor([context + ending], device=self._choice.device)
                logprobs = self._model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
                expected.append(float(np.mean([float(logprobs[2 + i, token]) for i, token in enumerate(ending)])))
        difference = np.abs(np.subtract(self.mean_logprobs([PackedRow(context, endings)]), expected)).max()
        return bool(difference < TOLERANCE.get(self._choice.dtype, 0.25))
