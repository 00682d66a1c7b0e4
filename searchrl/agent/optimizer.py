"""AdamW (Loshchilov and Hutter 2019) by torch's fused kernel.

``torch.optim.AdamW`` is the same arithmetic, but making one imports torch's compiler: several times the processor time
of everything else that a short training does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim.adamw import adamw

BETAS, EPSILON = (0.9, 0.999), 1e-8


class Optimizer(Protocol):
    """What an update asks of an optimizer; torch's own do it too."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        ...

    def step(self) -> object:
        """Change the parameters by their gradients."""
        ...


class AdamW:
    """Bit for bit ``torch.optim.AdamW(parameters, lr, weight_decay=weight_decay, fused=True)``, and its state dict."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.lr = lr
        """Learning rate of the next step."""
        self._weight_decay = weight_decay
        self._state: dict[int, dict[str, Tensor]] = {}
        """By the place of a parameter, once it had a gradient: steps taken, moments."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or make them 0."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad = None if set_to_none else torch.zeros_like(parameter.grad)

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters that have gradients."""
        places = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        if not places:
            return
        chosen = [self.parameters[i] for i in places]
        for i, parameter in zip(places, chosen, strict=True):
            if i not in self._state:
                self._state[i] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self._state[i] for i in places]
        adamw(
            chosen,
            [parameter.grad for parameter in chosen if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self.lr,
            weight_decay=self._weight_decay,
            eps=EPSILON,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on but parameters and gradients."""
        group = {"lr": self.lr, "weight_decay": self._weight_decay, "params": list(range(len(self.parameters)))}
        return {"state": {i: dict(state) for i, state in self._state.items()}, "param_groups": [group]}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Go on from a state. Raises ValueError, KeyError or TypeError where it is of other parameters."""
        (group,) = content["param_groups"]
        states: dict[int, dict[str, Tensor]] = {}
        for i, state in content["state"].items():
            parameter = self.parameters[i] if 0 <= i < len(self.parameters) else None
            if parameter is None or state["exp_avg"].shape != parameter.shape or len(state) != 3:
                raise ValueError("the optimizer's state is of another network")
            moments = {name: state[name].to(parameter, copy=True) for name in ("exp_avg", "exp_avg_sq")}
            step = state["step"].to(parameter.device, torch.float32, copy=True)
            states[i] = {"step": step, **moments}
        self.lr, self._weight_decay, self._state = float(group["lr"]), float(group["weight_decay"]), states
