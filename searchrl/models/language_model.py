"""What every language model backend offers: three calls, all batched.

Backends (transformers, over HTTP, vLLM) and the cache in front of them share this protocol, so whoever holds a
``LanguageModel`` does not know which it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


ANSWER = "\n[answer] "
"""Ends a prompt's message; what follows on that line is the beginning of the answer, which the model goes on from."""


def split_prompt(prompt: str) -> tuple[str, str]:
    """A prompt's message, and how its answer begins: "" where that is left to the model."""
    message, mark, beginning = prompt.rpartition(ANSWER)
    return (message, beginning) if mark and "\n" not in beginning else (prompt, "")


@runtime_checkable
class LanguageModel(Protocol):
    """A causal language model. Results come back in the order of the inputs, whatever order they were computed in."""

    @property
    def fingerprint(self) -> str:
        """Names weights and numeric format: two models that may answer differently differ here."""
        ...

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """Continue each prompt (wrapped in the model's chat template if it has one) and return the new text only.

        A prompt may say how the answer begins (``split_prompt``); a small model then stays with what it was asked for.

        Greedy at temperature 0; otherwise sampled, each prompt from its own stream of ``seed``, so that the answer
        does not depend on what else is in the batch.
        """
        ...

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> FloatArray:
        """Log-probability of each choice's first token as the next token after each (chat-wrapped) prompt.

        Shape (prompts, choices), normalised over the choices: each row's exponentials sum to 1.
        """
        ...

    def continuation_logprobs(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Mean log-probability per token, in nats, of each continuation after its context; plain text, no template.

        Shape (n,). Contexts that repeat are the normal case: a backend may compute each distinct one once.
        """
        ...


class Engine(LanguageModel, Protocol):
    """A backend: what runs a model, and can say which."""

    @property
    def name(self) -> str:
        """The model's name, as whoever runs it knows it."""
        ...

    @property
    def parameters(self) -> int | None:
        """Number of weights; None where a server does not say it."""
        ...

    @property
    def description(self) -> str:
        """For people: the model and what runs it."""
        ...

    def close(self) -> None:
        """Let go of weights or connections."""
        ...
