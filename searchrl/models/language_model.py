"""What every language model backend offers: three calls, all batched; and whether two backends answer alike.

Backends (transformers, over HTTP, vLLM) and the cache in front of them share this protocol. Whether two of them run the
same model the same way, a few pairs tell: likelihoods read plain text, so where they differ, weights, numeric format or
tokenizer do; chosen answers are read after the chat template, so where only they differ, it is the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from searchrl.errors import ConfigError, EngineError

FloatArray = NDArray[np.float32]


ANSWER = "\n[answer] "
"""Ends a template's message; what follows on that line is the beginning of the answer, which the model goes on from."""


class Prompt(str):
    """A filled-in template that says more than its text: how the answer begins, and which parts are data.

    In a plain string everything is data: what looks like a marker or a model's control token is text like any other.
    """

    __slots__ = ("beginning", "parts")

    beginning: str
    parts: tuple[tuple[str, bool], ...]
    """The message: texts, and whether each is data."""

    def __new__(cls, parts: Sequence[tuple[str, bool]], beginning: str = "") -> Prompt:
        """``parts``: the message's."""
        message = "".join(text for text, _ in parts)
        prompt = super().__new__(cls, f"{message}{ANSWER}{beginning}" if beginning else message)
        prompt.parts, prompt.beginning = tuple(parts), beginning
        return prompt

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prompt) and (self.parts, self.beginning) == (other.parts, other.beginning)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.parts, self.beginning))

    def __reduce__(self) -> tuple[type[Prompt], tuple[Any, ...]]:
        return Prompt, (self.parts, self.beginning)


PAIRS = (
    ("who wrote the origin of species", "Charles Darwin published On the Origin of Species in 1859."),
    ("who wrote the origin of species", "The mitochondrion makes most of a cell's supply of ATP."),
    ("how do cells get their energy", "The mitochondrion makes most of a cell's supply of ATP."),
    ("naïve Bayes über 50 €", "Ein naiver Bayes-Klassifikator: schnell, einfach, 日本語 inklusive."),
)
"""Query and document. Relevant and not, and one outside ASCII, where tokenizers differ first."""

ANSWERS = ("Yes", "No")

LIKELIHOOD_TOLERANCE = 0.25
"""Nats a token. Numeric formats and 4-bit weights move a mean log-probability by less, another tokenizer by more."""
CHOICE_TOLERANCE = 0.15
"""Probability."""


def split_prompt(prompt: str) -> tuple[str, str]:
    """A prompt's message, and how its answer begins: "" where that is left to the model."""
    if isinstance(prompt, Prompt):
        return "".join(text for text, _ in prompt.parts), prompt.beginning
    return prompt, ""


def split_template(template: str) -> tuple[str, str]:
    """The same of a template, whose last line may begin with the mark of an answer."""
    message, mark, beginning = template.rpartition(ANSWER)
    return (message, beginning) if mark and "\n" not in beginning else (template, "")


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


def check_generation(max_new_tokens: int, temperature: float) -> None:
    """Raise ConfigError on settings that no ``generate`` can have."""
    if max_new_tokens < 1 or temperature < 0:
        raise ConfigError(f"cannot generate {max_new_tokens} tokens at temperature {temperature}")


def finished(text: str, first_line_only: bool) -> str:
    """Generated text without white space around it; its first line where that is all that was wanted."""
    stripped = text.strip()
    return stripped.split("\n", 1)[0].rstrip() if first_line_only else stripped


def check_language_models(
    reference: LanguageModel, engine: LanguageModel, *, likelihoods: bool = True, chat: bool = True
) -> None:
    """Raise EngineError, naming the pair and both scores, unless two language models answer a few pairs alike.

    likelihoods, chat: what to compare; leave out what the engine lacks and nobody will ask of it.
    """
    if likelihoods:
        contexts = [f"Passage: {document}\nQuestion:" for _, document in PAIRS]
        continuations = [f" {query}" for query, _ in PAIRS]
        ours = reference.continuation_logprobs(contexts, continuations)
        theirs = engine.continuation_logprobs(contexts, continuations)
        cause = "other weights, a coarser numeric format, or another tokenizer (a text start too many or too few)"
        _compare("log-probability of the query", ours, theirs, LIKELIHOOD_TOLERANCE, cause)
    if chat:
        prompts = [f"Query: {q}\n\nDocument: {d}\n\nIs it relevant? Answer Yes or No." for q, d in PAIRS]
        ours = np.exp(reference.choice_logprobs(prompts, ANSWERS)[:, 0])
        theirs = np.exp(engine.choice_logprobs(prompts, ANSWERS)[:, 0])
        cause = "another chat template (or none), or other weights"
        _compare("probability of Yes", ours, theirs, CHOICE_TOLERANCE, cause)


def _compare(what: str, ours: FloatArray, theirs: FloatArray, tolerance: float, cause: str) -> None:
    gaps = np.abs(np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64))
    worst = int(np.nan_to_num(gaps, nan=np.inf).argmax())
    if not gaps[worst] <= tolerance:
        query, document = PAIRS[worst]
        raise EngineError(
            f"golden check: the {what} is {float(ours[worst]):.3f} by the reference and {float(theirs[worst]):.3f} by "
            f"the engine for the query {query!r} and the document {document!r} (at most {tolerance} apart); "
            f"likely {cause}"
        )
