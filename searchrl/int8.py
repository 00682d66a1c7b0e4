"""Linear layers in 8-bit integers, for CPUs whose fastest matrix instructions are those.

Weights are rounded once, a scale an output channel; activations at every call, a scale a token, so that a text's
numbers do not depend on its company in the batch. Activations get 7 of the 8 bits: on CPUs without VNNI the sum of two
products must fit 16 bits. Channels that are large in the activations are made smaller there and larger in the weights
(SmoothQuant, Xiao et al. 2023), by what a few fixed sentences show.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

CALIBRATION = (
    "The boiling point of water is one hundred degrees Celsius at sea level, and it falls as one climbs: on a mountain "
    "of 3,000 metres it is about ninety.",
    "def parse(path):\n    with open(path, encoding='utf-8') as file:\n"
    "        return [line.split('\\t') for line in file if line.strip()]",
    "In 1998, Smith et al. (n = 42, p < 0.05) reported that patients treated with the inhibitor showed reduced "
    "expression of the receptor in CD4+ T cells.",
    "how do i get a refund for a cancelled train ticket?",
    "What is the capital of France? The capital of France is Paris; Berlin, Madrid and Rome are those of Germany, "
    "Spain and Italy.",
)
"""Prose, code, science and questions, to see which activation channels are large."""

SMOOTHING = 0.6
"""Share of a channel's size that moves from activations to weights. Of 0 to 0.9 this kept the embedded language
model's likelihoods and the embedded encoder's vectors best; see docs/LOG.md."""

EXACT = ("down_proj",)
"""Layers that stay in float32, by the end of their names: what goes into them, in the Llama family, has single values
hundreds of times larger than the rest."""

LEVELS = 63.0
ZERO = 64
"""Activations run from 1 to 127 around this."""


class Quantiser:
    """Rounds activations for the linear layers that read the same tensor (query, key and value, say): once for all."""

    def __init__(self, smoothing: Tensor, readers: int) -> None:
        self._shrink = smoothing.reciprocal()
        self._readers = readers
        self._last: tuple[Tensor, tuple[Tensor, Tensor]] | None = None
        self._reads = 0

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of ``x`` (..., width) as uint8, (rows, width), and the scale of each, (rows, 1)."""
        if self._last is None or self._last[0] is not x:
            self._last, self._reads = (x, self._round(x)), 0
        rounded = self._last[1]
        self._reads += 1
        if self._reads == self._readers:
            self._last = None  # so that no activation outlives its readers
        return rounded

    def _round(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.reshape(-1, x.shape[-1]) * self._shrink
        scale = rows.abs().amax(1, keepdim=True).mul_(1 / LEVELS).clamp_(min=1e-12)
        # To int8 and not uint8: torch has fast code for that conversion only, and the values fit both.
        return rows.div_(scale).add_(ZERO + 0.5).to(torch.int8).view(torch.uint8), scale


class Int8Linear(nn.Module):
    """Stands in for a float32 ``nn.Linear``."""

    def __init__(self, linear: nn.Linear, smoothing: Tensor, quantiser: Quantiser) -> None:
        super().__init__()
        weight = linear.weight.detach().float() * smoothing
        self._scale = (weight.abs().amax(1) / 127).clamp(min=1e-12)
        rounded = (weight / self._scale[:, None]).round().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._zero = torch.zeros(len(rounded), dtype=torch.int32)
        self._bias = None if linear.bias is None else linear.bias.detach().float()
        self._quantiser = quantiser

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) float32 to (..., out) float32."""
        rows, scale = self._quantiser(x)
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, ZERO, self._packed, self._scale, self._zero, None, 1.0, 0, torch.float32, "none", [], ""
        )
        out = out.mul_(scale) if self._bias is None else torch.addcmul(self._bias, out, scale)
        return out.view(*x.shape[:-1], out.shape[-1])


@torch.inference_mode()
def to_int8(model: nn.Module, run: Callable[[str], object]) -> None:
    """Replace every linear layer inside a float32 model on the CPU; ``run`` passes one text through it.

    Layers that ``run`` does not reach, and those in ``EXACT``, stay as they are.
    """
    reach: dict[str, Tensor] = {}
    """Layer -> size of each of its input channels, (width,)."""
    readers: list[tuple[Tensor, list[str]]] = []
    """Input tensors of the first text, held so that they stay distinct, and who reads each."""

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            size = x.reshape(-1, x.shape[-1]).abs().amax(0)
            if name in reach:
                reach[name] = torch.maximum(reach[name], size)
                return
            reach[name] = size
            if readers and readers[-1][0] is x:
                readers[-1][1].append(name)
            else:
                readers.append((x, [name]))

        return note

    layers = {n: layer for n, layer in model.named_modules() if type(layer) is nn.Linear and not n.endswith(EXACT)}
    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        for text in CALIBRATION:
            run(text)
    finally:
        for hook in hooks:
            hook.remove()
    for _, names in readers:
        weight = torch.stack([layers[name].weight.abs().amax(0) for name in names]).amax(0).float().clamp(min=1e-5)
        size = reach[names[0]].clamp(min=1e-5)
        smoothing = size**SMOOTHING / weight ** (1 - SMOOTHING)
        smoothing = smoothing / smoothing.mean()
        quantiser = Quantiser(smoothing, len(names))
        for name in names:
            model.set_submodule(name, Int8Linear(layers[name], smoothing, quantiser))
