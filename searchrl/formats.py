"""How fast this processor computes in each numeric format: measured at first use, once, and kept in the user's cache.

One transformer layer in the shape of the embedded language model (linear layers, attention, what lies between) reads
512 tokens, on one thread and by that thread's own time, so that other work on the machine hardly counts. A format
takes the place of another only where it is faster by ``MARGIN``: measured again, the choice stays the same.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from searchrl.errors import CacheError, OutputError
from searchrl.files import cache_dir, load_json, write_text
from searchrl.threads import LOADING

if TYPE_CHECKING:
    from torch import Tensor, nn

logger = logging.getLogger(__name__)

FILE = "formats.json"
VERSION = 1
"""Raise it when something else is measured."""

MARGIN = 1.15
"""By how much a format must be faster to be chosen over one that is nearer to float32. Seen so far: int8 1.27 to 1.43
times float32 with AVX2, .9 to 1.06 times bfloat16 where that is in hardware.
"""

WIDTH, INNER, HEADS, SHARED = 576, 1536, 9, 3
"""The embedded language model's: states, inner states, heads, heads of keys and values."""
TOKENS, ROUNDS = 512, 4
HOPELESS = 3.0
"""Times as slow as float32 on a few tokens: emulated, and not worth a longer look."""


def fastest(among: Sequence[str], speed: Mapping[str, float]) -> str:
    """The fastest of some formats, which stand in the order of their exactness; see ``MARGIN``."""
    chosen = among[0]
    for candidate in among[1:]:
        if speed.get(candidate, 0.0) >= MARGIN * speed[chosen]:
            chosen = candidate
    return chosen


def speeds(formats: tuple[str, ...], processor: str) -> Mapping[str, float]:
    """Tokens a second of the layer in each format, on one thread; 0 where the processor does not have it.

    processor: names what the figures hold for. Measured where the cache has none; that takes about a second.
    """
    import torch

    return _speeds(formats, f"{processor}, torch {torch.__version__}, v{VERSION}")


@lru_cache(maxsize=8)
def _speeds(formats: tuple[str, ...], key: str) -> Mapping[str, float]:
    known = remembered().get(key, {})
    if not all(name in known for name in formats):
        known = measure(formats)
        logger.info("formats, tokens/s on one thread: %s", said(known))
        with suppress(OutputError, CacheError, OSError):  # then the next process measures again
            write_text(cache_dir() / FILE, json.dumps({**remembered(), key: known}, indent=1) + "\n")
    return {name: known[name] for name in formats}


def said(speed: Mapping[str, float]) -> str:
    """Speeds in words."""
    return ", ".join(f"{name} {value:,.0f}" if value else f"{name} none" for name, value in speed.items())


def remembered() -> dict[str, dict[str, float]]:
    """What the cache holds: processor and torch -> format -> tokens a second."""
    try:
        content = load_json((cache_dir() / FILE).read_text(encoding="utf-8"))
        return {str(key): {str(name): float(value) for name, value in speed.items()} for key, speed in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, CacheError, OutputError):
        return {}


def measure(formats: Sequence[str]) -> dict[str, float]:
    """Tokens a second of the layer in each format, now."""
    import torch

    with LOADING, torch.random.fork_rng(devices=[]), torch.inference_mode():
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            exact, tokens = _layer(), torch.randn(TOKENS, WIDTH)
            made = {name: _in_format(exact, tokens, name) for name in formats}
            few = {name: _seconds(layer, x[:64]) for name, (layer, x) in made.items() if layer is not None}
            slowest = HOPELESS * min(few.values())
            best = {name: float("inf") if seconds <= slowest else 0.0 for name, seconds in few.items()}
            for _ in range(ROUNDS):  # in turn, so that a busy moment hits all alike
                for name in [name for name, seconds in best.items() if seconds]:
                    best[name] = min(best[name], _seconds(*made[name]))
        finally:
            torch.set_num_threads(threads)
    return {name: round(TOKENS / best[name], 1) if best.get(name) else 0.0 for name in formats}


def _seconds(layer: nn.Module | None, tokens: Tensor) -> float:
    assert layer is not None
    layer(tokens)
    began = time.thread_time()
    layer(tokens)
    return max(time.thread_time() - began, 1e-9)


def _in_format(exact: nn.Module, tokens: Tensor, name: str) -> tuple[nn.Module | None, Tensor]:
    """The layer and its input in a format; None where there is no such product here."""
    import copy

    import torch

    layer = copy.deepcopy(exact)
    try:
        if name == "int8":
            from searchrl.int8 import to_int8

            to_int8(layer, lambda _: layer(tokens[:64]))
        else:
            layer, tokens = layer.to(getattr(torch, name)), tokens.to(getattr(torch, name))
        layer(tokens[:8])
    except RuntimeError:
        return None, tokens
    return layer, tokens


def _layer() -> nn.Module:
    """One layer of the Llama family with random weights, over one text."""
    import torch
    from torch import nn
    from torch.nn import functional

    size = WIDTH // HEADS

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
            self.key, self.value = (nn.Linear(WIDTH, SHARED * size, bias=False) for _ in range(2))
            self.gate, self.up = (nn.Linear(WIDTH, INNER, bias=False) for _ in range(2))
            self.down_proj = nn.Linear(INNER, WIDTH, bias=False)

        def forward(self, states: Tensor) -> Tensor:
            normed = functional.rms_norm(states, (WIDTH,))
            query, key, value = (
                part(normed).view(1, len(states), -1, size).transpose(1, 2)
                for part in (self.query, self.key, self.value)
            )
            key, value = (part.repeat_interleave(HEADS // SHARED, 1) for part in (key, value))
            seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            states = states + self.out(seen.transpose(1, 2).reshape(len(states), WIDTH))
            normed = functional.rms_norm(states, (WIDTH,))
            out: Tensor = states + self.down_proj(functional.silu(self.gate(normed)) * self.up(normed))
            return out

    with torch.no_grad():
        return Layer().eval()
