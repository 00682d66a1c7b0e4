"""Do two engines run the same model the same way? A few pairs, answered by both, tell before hours of work do.

Likelihoods read plain text: where they differ, weights, numeric format or tokenizer do. Chosen answers are read after
the chat template: where only they differ, it is the template. Vectors differ by pooling or a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from searchrl.errors import EngineError
from searchrl.models.encoder import FloatArray
from searchrl.models.language_model import LanguageModel

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
VECTOR_TOLERANCE = 0.02
"""Of 1, the cosine of equal directions."""


class TextEncoder(Protocol):
    """Turns texts into unit vectors."""

    def encode(self, texts: Sequence[str], *, kind: Literal["query", "document"] = "document") -> FloatArray:
        """(len(texts), dim) float32."""
        ...


class Scorer(Protocol):
    """Scores (query, document) pairs."""

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """(n,) float32."""
        ...


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


def check_encoders(reference: TextEncoder, engine: TextEncoder) -> None:
    """Raise EngineError, naming the text and the cosine, unless two encoders give a few texts the same directions."""
    for kind, column in (("query", 0), ("document", 1)):
        texts = [pair[column] for pair in PAIRS]
        ours = reference.encode(texts, kind=kind)  # type: ignore[arg-type]
        theirs = engine.encode(texts, kind=kind)  # type: ignore[arg-type]
        if ours.shape != theirs.shape:
            raise EngineError(
                f"golden check: vectors have {ours.shape[1]} dimensions here and {theirs.shape[1]} from the engine; "
                "it serves another model"
            )
        cosines = (ours * theirs).sum(axis=1)
        worst = int(cosines.argmin())
        if cosines[worst] < 1 - VECTOR_TOLERANCE:
            raise EngineError(
                f"golden check: the {kind} {texts[worst]!r} has a vector with cosine {cosines[worst]:.3f} to the "
                f"reference's; likely another pooling (mean, CLS, last token), a missing {kind} prompt, or "
                "other weights"
            )


def check_scorers(reference: Scorer, engine: Scorer, tolerance: float = LIKELIHOOD_TOLERANCE) -> None:
    """Raise EngineError, naming the pair and both scores, unless two reward models score a few pairs alike."""
    queries, documents = [q for q, _ in PAIRS], [d for _, d in PAIRS]
    cause = "another template, another activation after the head, or other weights"
    _compare("score", reference.score(queries, documents), engine.score(queries, documents), tolerance, cause)


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
